"""Batch norm equals PyTorch's where a call has all rows, and otherwise follows its stated rule."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from gnnpipe.nn.batch_norm import BatchNorm, EpochOfNorms, convert_batch_norms

ROWS, COLUMNS = 40, 5


def rows(seed: int = 0) -> Tensor:
    drawn = torch.randn(ROWS, COLUMNS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return 3 * drawn + 100  # far from 0, as rows behind a bias may be


def pair(**options: float | None) -> tuple[BatchNorm, nn.BatchNorm1d]:
    theirs = nn.BatchNorm1d(COLUMNS, **options).double()  # type: ignore[arg-type]
    with torch.no_grad():
        theirs.weight.uniform_(0.5, 2, generator=torch.Generator().manual_seed(1))
        theirs.bias.uniform_(-1, 1, generator=torch.Generator().manual_seed(2))
    ours = convert_batch_norms(theirs)
    assert isinstance(ours, BatchNorm)
    return ours, theirs


def run_epoch(norm: BatchNorm, chunks: list[Tensor]) -> list[Tensor]:
    assert norm.epoch is not None
    norm.begin_epoch()
    norm.epoch.counts = True
    outs = [norm.normalize(chunk)[0] for chunk in chunks]
    norm.epoch.counts = False
    norm.normalize(chunks[0])  # rows that are made again don't count
    norm.finish_epoch(norm.totals)
    return outs


@pytest.mark.parametrize("momentum", [0.1, 0.5, None])
def test_one_chunk_is_pytorchs(momentum: float | None) -> None:
    ours, theirs = pair(momentum=momentum)
    ours.run_by(EpochOfNorms(whole=True))
    for epoch in range(3):
        (found,) = run_epoch(ours, [rows(epoch)])
        torch.testing.assert_close(found, theirs(rows(epoch)))
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    torch.testing.assert_close(ours.running_var, theirs.running_var)
    torch.testing.assert_close(ours.eval()(rows(9)), theirs.eval()(rows(9)))


@pytest.mark.parametrize("whole", [True, False])
def test_derivatives(whole: bool) -> None:
    """Written out, and autograd's of the same module; with constants and through the statistics."""
    ours, _ = pair()
    ours.run_by(EpochOfNorms(whole=whole))
    run_epoch(ours, [rows(3)])
    ours.begin_epoch()
    h = rows().requires_grad_()
    assert torch.autograd.gradcheck(ours, (h,))
    gradient = torch.randn(ROWS, COLUMNS, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    out = ours(h)
    expected = torch.autograd.grad(out, [h, ours.weight, ours.bias], gradient)  # type: ignore[list-item]
    normed, found = ours.normalize(h.detach())
    torch.testing.assert_close(normed.detach(), out.detach())
    back = ours.normalize_back(gradient, h.detach(), found)
    for mine, wanted in zip((back, ours.weight.grad, ours.bias.grad), expected, strict=True):  # type: ignore[union-attr]
        torch.testing.assert_close(mine, wanted)


def test_chunks_are_normalised_by_the_last_epochs_rows() -> None:
    ours, _ = pair()
    ours.run_by(EpochOfNorms(whole=False))
    first = list(rows(0).split([7, 20, 13]))
    for chunk, found in zip(first, run_epoch(ours, first), strict=True):  # a mini-batch each
        _, theirs = pair()
        torch.testing.assert_close(found, theirs(chunk))
    for epoch in range(1, 4):
        chunks = list(rows(epoch).split([1, 9, 30]))
        before = rows(epoch - 1)
        scale = (before.var(dim=0, correction=0) + ours.eps).rsqrt()
        expected = (rows(epoch) - before.mean(dim=0)) * scale * ours.weight + ours.bias
        torch.testing.assert_close(torch.cat(run_epoch(ours, chunks)), expected)
        torch.testing.assert_close(ours.var, rows(epoch).var(dim=0, correction=0))


def test_a_chunk_of_one_row_is_not_normalised_by_itself() -> None:
    """In the first epoch it would come to 0, and with it the variance that the next epoch divides by."""
    norm = BatchNorm(3)
    norm.run_by(EpochOfNorms(whole=False, counts=True))
    norm.begin_epoch()
    rows = torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 5.0]])
    found = torch.cat([norm(row) for row in rows.split(1)])
    torch.testing.assert_close(found, rows, rtol=norm.eps, atol=0.0)  # eps is added to a variance of 1
    norm.finish_epoch(norm.totals)
    torch.testing.assert_close(norm.mean, rows.mean(0))
    torch.testing.assert_close(norm.var, rows.var(0, unbiased=False))


def test_chunks_and_one_chunk_come_to_the_same_running_averages() -> None:
    whole, chunked = pair()[0], pair()[0]
    whole.run_by(EpochOfNorms(whole=True))
    chunked.run_by(EpochOfNorms(whole=False))
    for epoch in range(3):
        run_epoch(whole, [rows(epoch)])
        run_epoch(chunked, list(rows(epoch).split(11)))
    torch.testing.assert_close(chunked.running_mean, whole.running_mean)
    torch.testing.assert_close(chunked.running_var, whole.running_var)


def test_a_module_is_converted_with_what_it_knows() -> None:
    module = nn.Sequential(
        nn.Linear(3, COLUMNS), nn.Sequential(nn.BatchNorm1d(COLUMNS, 1e-3, 0.3), nn.ReLU())
    )
    module(torch.randn(20, 3) + 5)
    before = copy.deepcopy(module).eval()
    converted = convert_batch_norms(module)
    assert converted is module
    assert not any(isinstance(part, nn.BatchNorm1d) for part in module.modules())
    x = torch.randn(8, 3)
    torch.testing.assert_close(module.eval()(x), before(x))
    norm = module[1][0]
    assert (norm.eps, norm.momentum) == (1e-3, 0.3)
    assert torch.equal(norm.mean, norm.running_mean)
    assert convert_batch_norms(nn.BatchNorm1d(4, affine=False)).weight is None


def test_a_norm_without_running_averages_is_refused() -> None:
    with pytest.raises(ValueError, match=r"track_running_stats=False.*leave track_running_stats at True"):
        convert_batch_norms(nn.Sequential(nn.BatchNorm1d(3, track_running_stats=False)))
