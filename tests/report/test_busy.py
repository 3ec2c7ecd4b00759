"""Long work says what it is, and short work says nothing."""

from __future__ import annotations

import time

import pytest

from gnnpipe.report import busy


def test_a_log_hears_of_long_work_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with busy.busy("loading a graph"):
        pass
    monkeypatch.setattr(busy, "PATIENCE", 0.01)
    with busy.busy("cutting [a] graph"):
        time.sleep(0.3)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "cutting [a] graph ...\n"


def test_it_is_quiet_once_the_work_failed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(busy, "PATIENCE", 0.1)
    with pytest.raises(ValueError, match="no graph"), busy.busy("loading a graph"):
        raise ValueError("no graph")
    time.sleep(0.3)
    assert capsys.readouterr().err == ""
