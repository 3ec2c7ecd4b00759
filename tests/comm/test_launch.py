"""Who failed first, when ranks of this host fail."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from gnnpipe.comm.launch import launch_local
from gnnpipe.errors import LostRankError


def _die_while_reporting(store: str) -> None:
    """Rank 1 is killed when the file with its error has been made and holds nothing yet."""

    def half_written(file: int, content: memoryview) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return 0

    ready = Path(f"{store}-ready")
    if os.environ["RANK"] == "1":
        while not ready.exists():  # from then on rank 0 leaves word when it is told to end
            time.sleep(0.01)
        os.write = half_written  # type: ignore[assignment]
        raise ValueError("nobody reads this")
    ready.touch()
    time.sleep(60)


def test_a_report_that_was_cut_short_is_none() -> None:
    with pytest.raises(LostRankError, match="rank 1 failed first: it ended without a word"):
        launch_local(_die_while_reporting, (), 2)
