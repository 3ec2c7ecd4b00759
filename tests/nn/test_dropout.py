"""Masks are a pure function of what is dropped."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnnpipe.graph.csr import Csr
from gnnpipe.nn.dropout import Dropout, dropout_key
from gnnpipe.nn.features import SparseRows


def mask(rate: float, nodes: torch.Tensor, cols: int, key: int = 1) -> torch.Tensor:
    kept = Dropout(rate, key, nodes)(torch.ones(len(nodes), cols))
    assert isinstance(kept, torch.Tensor)
    return kept


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_share_and_mean(rate: float) -> None:
    num_nodes, num_cols = 4000, 100
    kept = mask(rate, torch.arange(num_nodes), num_cols, dropout_key(3, 4, 5))
    exact = round(rate * 256) / 256
    # six standard deviations of a mean of 400,000 coin flips, or of 4,000 in a single column
    deviation = (exact * (1 - exact)) ** 0.5
    dropped = (kept == 0).float()
    assert abs(dropped.mean() - exact) < 6 * deviation / (num_nodes * num_cols) ** 0.5
    assert (dropped.mean(dim=0) - exact).abs().max() < 6 * deviation / num_nodes**0.5
    assert (dropped.mean(dim=1) - exact).abs().max() < 6 * deviation / num_cols**0.5
    torch.testing.assert_close(kept.max(), torch.tensor(256 / (256 - round(rate * 256))))


def test_columns_and_neighbouring_nodes_are_independent() -> None:
    kept = (mask(0.5, torch.arange(4000), 64) > 0).double()
    correlation = torch.corrcoef(kept.T) - torch.eye(64, dtype=torch.float64)
    assert correlation.abs().max() < 6 / 4000**0.5
    shifted = torch.corrcoef(torch.stack([kept[1:].flatten(), kept[:-1].flatten()]))[0, 1]
    assert shifted.abs() < 6 / kept.numel() ** 0.5


def test_keys_differ_in_each_number() -> None:
    keys = {dropout_key(seed, draw, layer) for seed in range(8) for draw in range(8) for layer in range(8)}
    assert len(keys) == 512


@given(st.permutations(list(range(20))), st.integers(1, 30), st.floats(0, 0.99))
def test_numbering_does_not_matter(order: list[int], cols: int, rate: float) -> None:
    nodes = torch.tensor(order)
    assert torch.equal(mask(rate, nodes, cols), mask(rate, torch.arange(20), cols)[nodes])


@given(st.integers(1, 40), st.integers(0, 10**6))
def test_sparse_rows_drop_the_same_entries(cols: int, seed: int) -> None:
    rows = torch.rand(9, cols, generator=torch.Generator().manual_seed(seed))
    nodes = torch.arange(100, 109)
    drop = Dropout(0.3, seed, nodes)
    import scipy.sparse as sp

    kept = drop(SparseRows.from_csr(Csr.from_scipy(sp.csr_matrix(rows.numpy()))))
    assert isinstance(kept, SparseRows)
    torch.testing.assert_close(torch.from_numpy(kept.matrix.to_scipy().toarray()), drop(rows))
    torch.testing.assert_close(torch.from_numpy(kept.transpose.to_scipy().toarray()), drop(rows).T)


def test_gradient_goes_through_kept_entries() -> None:
    rows = torch.rand(5, 12, requires_grad=True)
    drop = Dropout(0.4, 7, torch.arange(5))
    drop(rows).sum().backward()
    torch.testing.assert_close(rows.grad, mask(0.4, torch.arange(5), 12, 7))


def test_rate_zero_is_the_identity() -> None:
    rows = torch.rand(3, 3)
    assert Dropout(0.0, 1, torch.arange(3))(rows) is rows
