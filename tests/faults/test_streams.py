"""Output that nobody reads, or that can't be written."""

from __future__ import annotations

import io
import os
import signal
import subprocess
from pathlib import Path

import pytest

from gnnpipe.checkpoint.state import latest
from gnnpipe.system.streams import PatientStream
from tests.cli.commands import environment
from tests.faults.launches import FOR_EVER, epochs_of, started, train, wait_for_epochs

HERE = Path(__file__).parents[2]
NEEDS_FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
@pytest.mark.slow
def test_a_run_that_nobody_reads_goes_on_and_hears_signals(number: int, tmp_path: Path) -> None:
    """As in ``gnnpipe train 2>&1 | head -n 1``."""
    reader, writer = os.pipe()
    flags = ["--eval-every", "1", "--stages", "2", "--out", "run"]
    with started(train(*FOR_EVER, *flags), tmp_path, stdout=writer, stderr=writer) as process:
        os.close(writer)
        with os.fdopen(reader) as lines:
            assert "synthetic: 400 nodes" in lines.readline()
        wait_for_epochs(tmp_path / "run", 20, process)
        process.send_signal(number)
        assert process.wait(timeout=60) == 128 + number
    stored = latest(tmp_path / "run", print)
    assert stored is not None
    assert stored.about.epochs == epochs_of(tmp_path / "run")


def shell(command: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Run a line of shell; bash tells the first command's exit code."""
    script = f"{command}; exit ${{PIPESTATUS[0]}}"
    return subprocess.run(
        ["bash", "-c", script.replace("gnnpipe", train()[0])],
        cwd=tmp_path,
        env=environment() | {"PYTHONPATH": str(HERE)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("gnnpipe --help | true", 0),
        ("gnnpipe nonsense 2>&1 | true", 2),
        ("gnnpipe nonsense 2>&-", 2),
        ("gnnpipe nonsense >&- 2>&-", 2),
        ("gnnpipe --version >&-", 0),
        pytest.param("gnnpipe --version > /dev/full", 1, marks=NEEDS_FULL),
        pytest.param("gnnpipe nonsense 2> /dev/full", 2, marks=NEEDS_FULL),
    ],
)
def test_output_that_can_not_be_written_hides_no_exit_code(command: str, code: int, tmp_path: Path) -> None:
    done = shell(command, tmp_path)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    lost = "gnnpipe: error: not all output could be written (No space left on device)\n"
    assert done.stderr == (lost if "version > /dev/full" in command else "")


def test_a_file_that_is_opened_never_takes_the_place_of_a_closed_stream(tmp_path: Path) -> None:
    """What is written to stderr would end up in it."""
    shell("gnnpipe show nowhere >&- 2>&-; ls > names", tmp_path)
    assert (tmp_path / "names").read_text() == "names\n"


class Broken(io.StringIO):
    """Fails once a line is long."""

    def write(self, text: str) -> int:
        if len(text) > 3:
            raise OSError(5, "Input/output error")
        return super().write(text)


def test_a_stream_that_failed_says_nothing_more() -> None:
    below = Broken()
    stream = PatientStream(below)
    assert stream.write("abc") == 3
    assert stream.write("abcdef") == 6
    assert stream.write("abc") == 3
    stream.flush()
    assert below.getvalue() == "abc"
    assert stream.failure is not None
    assert stream.failure.errno == 5
