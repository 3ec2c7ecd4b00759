"""The Triton kernels, under Triton's interpreter where there is no GPU, beside float64 and PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
pytest.importorskip("triton", reason="Triton is not installed")

from gnnpipe.graph.csr import Csr  # noqa: E402
from gnnpipe.nn.dropout import Dropout, dropout_key  # noqa: E402
from gnnpipe.ops.mix import Mix  # noqa: E402
from gnnpipe.ops.torch import TorchOps  # noqa: E402
from gnnpipe.ops.triton import LongRows, TritonOps  # noqa: E402

# Triton's interpreter itself turns arrays of one number into numbers
pytestmark = pytest.mark.filterwarnings("ignore:Conversion of an array with ndim:DeprecationWarning")

# a float32 sum of n terms is off by at most n roundings; the rows here are short
TOLERANCE = 1e-6


def matrix(num_rows: int, num_cols: int, density: float, seed: int, hubs: int = 0) -> sp.csr_matrix:
    """Random, with empty rows; the first ``hubs`` rows are full."""
    rng = np.random.default_rng(seed)
    dense = rng.standard_normal((num_rows, num_cols)) * (rng.random((num_rows, num_cols)) < density)
    dense[:hubs] = rng.standard_normal((min(hubs, num_rows), num_cols))
    return sp.csr_matrix(dense.astype(np.float32))


def close(found: torch.Tensor, wanted: np.ndarray) -> None:
    scale = max(1.0, float(np.abs(wanted).max(initial=0.0)))
    np.testing.assert_allclose(found.double().cpu().numpy(), wanted, rtol=0, atol=TOLERANCE * scale)


@given(
    num_rows=st.integers(1, 30),
    num_cols=st.integers(1, 40),
    width=st.sampled_from([1, 3, 16, 41, 100, 130]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    index=st.sampled_from([torch.int32, torch.int64]),
    hubs=st.integers(0, 3),
    seed=st.integers(0, 99),
)
@settings(max_examples=10)
def test_pull_is_the_product_in_float64(
    num_rows: int, num_cols: int, width: int, dtype: torch.dtype, index: torch.dtype, hubs: int, seed: int
) -> None:
    """Sums are float32 whatever the table is held in; rows longer than a piece are added in pieces."""
    made = matrix(num_rows, num_cols, 0.3, seed, hubs)
    table = torch.randn(num_cols, width, generator=torch.Generator().manual_seed(seed)).to(dtype)
    csr = Csr.from_scipy(made)
    csr = Csr(csr.rowptr.to(index), csr.col.to(index), csr.value, num_cols).to(DEVICE)
    back_end = TritonOps(longest=7)
    wanted = made.astype(np.float64) @ table.double().numpy()
    found = back_end.pull(csr, table.to(DEVICE))
    close(found, wanted)
    assert torch.equal(back_end.pull(csr, table.to(DEVICE)), found)  # the same bits once more
    added = back_end.pull(csr, table.to(DEVICE), add_to=found.clone())
    close(added, 2 * wanted)


@pytest.mark.parametrize("back_end", [TorchOps(), TritonOps(longest=7)])
@pytest.mark.parametrize("adds", [False, True])
def test_a_pull_ends_in_a_mix(back_end: TorchOps, adds: bool) -> None:
    """Of short rows, long rows, which are added in pieces, and rows in two parts."""
    made = matrix(20, 30, 0.2, 5, hubs=2)
    generator = torch.Generator().manual_seed(5)
    table, first = torch.randn(30, 20, generator=generator), torch.randn(20, 20, generator=generator)
    other = torch.randn(24, 20, generator=generator)[2:22]  # a view, as a tile's rows are
    wanted = made.astype(np.float64) @ table.double().numpy() + adds * first.double().numpy()
    mix = Mix(other.to(DEVICE), 0.1)
    found = back_end.pull(
        Csr.from_scipy(made).to(DEVICE), table.to(DEVICE), first.to(DEVICE) if adds else None, mix
    )
    close(found, 0.9 * wanted + 0.1 * other.double().numpy())


def test_pull_of_a_chunk_is_rows_of_the_whole() -> None:
    """A chunk's matrix shares the whole one's entries."""
    csr = Csr.from_scipy(matrix(20, 20, 0.4, 1, hubs=2)).to(DEVICE)
    table = torch.randn(20, 24, device=DEVICE)
    back_end = TritonOps(longest=8)
    whole = back_end.pull(csr, table)
    assert torch.equal(back_end.pull(csr.rows(5, 17), table), whole[5:17])
    assert back_end.pull(csr.rows(4, 4), table).shape == (0, 24)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pull_as_it_is_used(dtype: torch.dtype) -> None:
    """With the sizes that the engine runs with: several programs, no row that is long."""
    made = matrix(600, 600, 0.03, 3)
    table = torch.randn(600, 20, generator=torch.Generator().manual_seed(0)).to(dtype)
    found = TritonOps().pull(Csr.from_scipy(made).to(DEVICE), table.to(DEVICE))
    close(found, made.astype(np.float64) @ table.double().numpy())


def test_pieces_of_long_rows_cover_their_entries_once() -> None:
    rowptr = torch.tensor([0, 3, 20, 20, 28])
    found = LongRows.of(rowptr, longest=7)
    assert found is not None
    assert found.row.tolist() == [1, 3]
    assert found.first.tolist() == [0, 3, 5]
    assert list(zip(found.begin.tolist(), found.end.tolist(), strict=True)) == [
        (3, 10), (10, 17), (17, 20), (20, 27), (27, 28),
    ]  # fmt: skip
    assert LongRows.of(rowptr, longest=17) is None


@given(
    num_rows=st.integers(1, 40),
    width=st.sampled_from([1, 8, 13, 64, 100]),
    rate=st.sampled_from([0.1, 0.5, 0.9]),
    seed=st.integers(0, 99),
)
@settings(max_examples=8)
def test_dropout_is_that_of_pytorch_bit_for_bit(num_rows: int, width: int, rate: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(num_rows, width, generator=generator)
    nodes = torch.randint(0, 2**40, (num_rows,), generator=generator)
    drop = Dropout(rate, dropout_key(seed, 3, 1), nodes)
    for dtype in (torch.float32, torch.bfloat16):
        wanted = torch.empty(num_rows, width, dtype=dtype)
        TorchOps().drop(rows, drop, wanted)
        found = torch.full((num_rows + 1, width + 2), 7.0, dtype=dtype, device=DEVICE)
        on_device = Dropout(rate, drop.key, nodes.to(DEVICE))
        TritonOps().drop(rows.to(DEVICE), on_device, found[:num_rows, :width])
        if dtype == torch.float32 or DEVICE.type == "cuda":
            assert torch.equal(found[:num_rows, :width].cpu(), wanted)
        else:  # the interpreter cuts bf16 off where devices round
            torch.testing.assert_close(found[:num_rows, :width], wanted, rtol=2**-7, atol=0)
        assert bool((found[num_rows] == 7).all())  # nothing beside the rows is written
        assert bool((found[:, width:] == 7).all())


def test_dropout_of_many_rows_is_that_of_pytorch() -> None:
    rows, nodes = torch.randn(700, 20, device=DEVICE), torch.arange(700, device=DEVICE)
    mask = Dropout(0.5, 5, nodes)
    wanted, found = torch.empty_like(rows), torch.empty_like(rows)
    TorchOps().drop(rows, mask, wanted)
    TritonOps().drop(rows, mask, found)
    assert torch.equal(found, wanted)


def test_a_key_on_the_device_is_read_when_the_kernel_runs() -> None:
    """So that what is recorded once drops by each epoch's key."""
    rows, nodes = torch.randn(9, 16, device=DEVICE), torch.arange(9, device=DEVICE)
    key = torch.zeros(1, dtype=torch.int64, device=DEVICE)
    drop = Dropout(0.5, 0, nodes, key_on_device=key)
    for epoch in (1, 2):
        key.fill_(dropout_key(0, epoch, 0))
        found, wanted = torch.empty_like(rows), torch.empty_like(rows)
        TritonOps().drop(rows, drop, found)
        TorchOps().drop(rows, Dropout(0.5, dropout_key(0, epoch, 0), nodes), wanted)
        assert torch.equal(found, wanted)


@pytest.mark.parametrize("width", [5, 64])
def test_the_way_back_of_dropout_is_that_of_pytorch(width: int) -> None:
    gradient, dropped = (
        torch.randn(33, width, device=DEVICE),
        torch.randn(33, width + 3, device=DEVICE).relu(),
    )
    dropped = dropped[:, :width]
    wanted, found = torch.empty_like(gradient), torch.empty_like(gradient)
    TorchOps().drop_back(gradient, dropped, 2.0, wanted)
    TritonOps().drop_back(gradient, dropped, 2.0, found)
    assert torch.equal(found, wanted)
    TritonOps().drop_back(gradient, dropped, 2.0, gradient)  # in place
    assert torch.equal(gradient, wanted)


def test_gradients_are_weighed_as_by_pytorch() -> None:
    rows, previous = torch.randn(17, 12, device=DEVICE), torch.randn(17, 12, device=DEVICE)
    wanted = 1.7 * rows.double() - 0.7 * previous.double()
    newest = rows.clone()
    TritonOps().weigh(rows, previous, 1.7, 0.7)
    torch.testing.assert_close(rows.double(), wanted, rtol=0, atol=1e-6)
    assert torch.equal(previous, newest)


@pytest.mark.parametrize("back_end", [TorchOps(), TritonOps()])
def test_initial_rows_get_their_share_of_the_gradient(back_end: TorchOps) -> None:
    seen = torch.randn(17, 12, device=DEVICE)
    gradient = torch.randn(17, 12, device=DEVICE)
    wanted = seen.double() + 0.1 * gradient.double()
    back_end.share(0.9 * gradient, seen, 0.1)
    torch.testing.assert_close(seen.double(), wanted, rtol=0, atol=1e-6)
