"""Numbers gone wrong stop a run, or cost it one epoch's step."""

from __future__ import annotations

from pathlib import Path

import pytest

from gnnpipe.checkpoint.state import latest
from gnnpipe.config.run import StalenessConfig
from gnnpipe.errors import TrainingError
from tests.faults.runs import Run


def test_stop_says_where_it_began_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    run = Run.prepare(tmp_path / "run", stages=2, model="gcn", dropout=0.0)
    with pytest.raises(
        TrainingError,
        match=r"the loss became nan in epoch 4, first in the rows that enter .*, on rank 1 .*--resume",
    ):
        run.train_poisoned(1, 3)
    assert len(run.folder.records()) == 3
    stored = latest(run.folder.path, pytest.fail)
    assert stored
    assert stored.about.epochs == 2
    assert run.again().train().losses()[2:]


def test_skip_leaves_one_step_out(tmp_path: Path) -> None:
    run = Run.prepare(tmp_path / "run", stages=2, model="gcn", dropout=0.0, on_nonfinite="skip")
    losses = run.train_poisoned(1, 3).losses()
    assert [loss is None for loss in losses] == [False, False, False, True, False, False]
    assert run.folder.summary().epochs == 6


@pytest.mark.parametrize("chunks", [1, 4])
def test_a_stale_halo_loses_no_more_than_the_epoch_that_went_wrong(chunks: int, tmp_path: Path) -> None:
    """Rows that are under way between parts as the epoch is skipped arrive in the next one."""
    changes = {"parts": 2, "chunks": chunks, "staleness": StalenessConfig(weight="fitted")}
    run = Run.prepare(tmp_path / "run", halo="stale", on_nonfinite="skip", check_gradient=1, **changes)
    losses = run.train_overflowed(1, 3).losses()
    assert [loss is None for loss in losses] == [False, False, False, True, False, False]
    for name, tensor in run.state().items():
        assert tensor.isfinite().all(), name
    assert [record.gradient is not None for record in run.folder.records()] == [
        loss is not None for loss in losses
    ]


def test_skip_gives_up(tmp_path: Path) -> None:
    run = Run.prepare(
        tmp_path / "run", stages=2, model="gcn", lr=1e30, epochs=20, eval_every=99, on_nonfinite="skip"
    )
    with pytest.raises(TrainingError, match="like 10 before it"):
        run.train()


def test_too_high_a_learning_rate(tmp_path: Path) -> None:
    run = Run.prepare(tmp_path / "run", model="gcn", lr=1e30, chunks=1)
    with pytest.raises(TrainingError, match=r"became (nan|inf) in epoch 2.*use a lower --lr"):
        run.train()
