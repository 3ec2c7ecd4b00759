"""A launcher that is killed takes its ranks along, and leaves nothing that stays."""

from __future__ import annotations

import getpass
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from _pytest.mark import ParameterSet

from gnnpipe.errors import StoppedError
from gnnpipe.files.scratch import ALIVE, PREFIX, SECONDS_TO_BE_MADE, scratch_folder, sweep
from gnnpipe.records.lock import held
from tests.cli.commands import BIN
from tests.faults.launches import (
    FOR_EVER,
    SMALL,
    alive,
    epochs_of,
    family,
    started,
    train,
    wait_for_end,
    wait_for_epochs,
)
from tests.faults.runs import Run
from tests.faults.test_signals import beside, rank_processes

FLAGS = ["--stages", "2", "--checkpoint-every", "5", "--out", "run"]


def ours(folder: Path) -> list[Path]:
    """What is in a folder for temporary files; torch leaves an empty one of its own there."""
    return [path for path in folder.iterdir() if path.name != f"torchinductor_{getpass.getuser()}"]


@pytest.mark.slow
def test_ranks_end_with_a_launcher_that_is_killed_and_resume_goes_on_at_once(tmp_path: Path) -> None:
    temporary = tmp_path / ("a" * 100)  # longer than the address of a socket may be
    temporary.mkdir()
    environ = {"TMPDIR": str(temporary)}
    with started(train(*FOR_EVER, *FLAGS), tmp_path, environ) as process:
        wait_for_epochs(tmp_path / "run", 12, process)
        processes = family(process.pid)
        assert len(processes) == 3  # two ranks, and what they were forked from
        assert len(ours(temporary)) == 2  # the prepared graph, and what ranks say
        process.kill()
        # its parent has not looked yet, so that it is a zombie, whose number is still in use
        with started(train("--resume", "run", "--epochs", "60"), tmp_path, environ) as again:
            said, errors = again.communicate(timeout=120)
            assert again.returncode == 0, errors
            assert not alive(processes)
    assert "going on from epoch" in said
    assert epochs_of(tmp_path / "run") == 60
    assert ours(temporary) == []


@pytest.mark.slow
@pytest.mark.parametrize("which", ["server", "all but one rank"])
def test_ranks_end_whoever_is_killed(which: str, tmp_path: Path) -> None:
    with started(train(*FOR_EVER, *FLAGS), tmp_path) as process:
        wait_for_epochs(tmp_path / "run", 2, process)
        processes = family(process.pid)
        server = next(one for one in processes if one.ppid() == process.pid)
        if which == "server":
            server.kill()
            _, errors = process.communicate(timeout=30)
            assert process.returncode == 1
            assert "the process that starts the ranks ended" in errors
        else:
            for one in (server, psutil.Process(process.pid)):
                one.suspend()
            process.kill()
            server.kill()
        wait_for_end(processes, 5)


@pytest.mark.slow
def test_ranks_end_with_torchrun_that_is_killed(tmp_path: Path) -> None:
    command = [str(BIN / "torchrun"), "--nproc-per-node", "2", "-m", "gnnpipe", "train", *FOR_EVER, *FLAGS]
    with started(command, tmp_path) as process:
        wait_for_epochs(tmp_path / "run", 2, process)
        processes = family(process.pid)
        process.kill()
        wait_for_end(processes, 5)


def test_a_launcher_that_is_killed_while_it_imports_leaves_no_process(tmp_path: Path) -> None:
    with started(train(*FOR_EVER, *FLAGS), tmp_path) as process:
        while not (processes := family(process.pid)):
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
        assert wait_for_end(processes, 5) < 5


def test_the_lock_is_held_by_whoever_still_writes(tmp_path: Path) -> None:
    """The process that took it is gone, another one has a copy of the open file for a second yet."""
    code = (
        "import os, subprocess, sys; from pathlib import Path; from gnnpipe.records.lock import held\n"
        "with held(Path(sys.argv[1])) as lock:\n"
        "    null = subprocess.DEVNULL\n"
        "    subprocess.Popen(['sleep', '1'], pass_fds=[lock], stdout=null, stderr=null)\n"
        "    print('held', flush=True); os._exit(9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.stdout == "held\n"
    began = time.monotonic()
    with held(tmp_path):
        assert time.monotonic() - began > 0.5


def test_what_a_living_process_keeps_is_not_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with scratch_folder() as folder:
        (folder / "graph").touch()
        code = (
            "import tempfile, sys; tempfile.tempdir = sys.argv[1]; from gnnpipe.files import scratch\n"
            "scratch.SECONDS_TO_BE_MADE = -1; scratch.sweep()"
        )
        subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
        assert (folder / "graph").exists()
    assert list(tmp_path.iterdir()) == []


def test_only_our_own_dead_folders_are_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / ALIVE).touch()
    (precious / "file").touch()
    (tmp_path / f"{PREFIX}link").symlink_to(precious)  # somebody else's, who wants it followed
    (tmp_path / f"{PREFIX}file").touch()
    inside = tmp_path / f"{PREFIX}dead"
    inside.mkdir()
    (inside / ALIVE).touch()
    (inside / "link").symlink_to(precious)
    young, old = (tmp_path / f"{PREFIX}{age}" for age in ("young", "old"))  # without a lock file
    for folder in (young, old):
        folder.mkdir()
    long_ago = time.time() - 2 * SECONDS_TO_BE_MADE
    os.utime(old, (long_ago, long_ago))
    lock = tmp_path / f"{PREFIX}odd"
    lock.mkdir()
    (lock / ALIVE).symlink_to(precious / "file")
    sweep()
    left = {path.name.removeprefix(PREFIX) for path in tmp_path.iterdir()}
    assert left == {"precious", "link", "file", "young", "odd"}
    assert {path.name for path in precious.iterdir()} == {ALIVE, "file"}


def listening(processes: list[psutil.Process]) -> set[str]:
    """Addresses at which processes listen, as the system tells."""
    return {
        connection.laddr.ip
        for process in processes
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }


@pytest.mark.parametrize("shape", [{"stages": 2}, {"parts": 2}], ids=["stages", "parts"])
def test_a_local_run_listens_on_loopback_only(
    shape: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the environment names for runs over several hosts."""
    other = next(name for _, name in socket.if_nameindex() if not name.startswith("lo"))
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", other)
    before = listening([psutil.Process()])
    found: set[str] = set()

    def look() -> None:
        ranks = rank_processes()
        found.update(listening([psutil.Process(), *ranks]))
        ranks[0].terminate()

    run = Run.prepare(tmp_path / "run", epochs=100_000, **shape)
    with beside(look, run.folder.path), pytest.raises(StoppedError):
        run.train()
    assert found - before == {"127.0.0.1"}  # ranks do listen, for each other


@pytest.mark.slow
@pytest.mark.parametrize("stages", ["1", "2"])
def test_a_long_path_for_temporary_files(stages: str, tmp_path: Path) -> None:
    """An address of a socket in the file system has no more than 107 characters."""
    temporary = tmp_path / ("a" * 100) / ("b" * 100)
    temporary.mkdir(parents=True)
    command = train(*SMALL, "--epochs", "2", "--stages", stages, "--out", "run")
    with started(command, tmp_path, {"TMPDIR": str(temporary)}) as process:
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert ours(temporary) == []


def test_no_place_for_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "absent"))
    with (
        pytest.raises(ValueError, match="TMPDIR: no folder can be made for temporary files"),
        scratch_folder(),
    ):
        pass


SCRIPT = """
import sys
from gnnpipe.cli.main import main
sys.exit(main({arguments!r}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["file", "stdin"])
def test_a_script_needs_no_main_guard(how: str, tmp_path: Path) -> None:
    """Nor does a prompt or a notebook, which has no file."""
    script = SCRIPT.format(arguments=["train", *SMALL, "--epochs", "2", "--stages", "2", "--out", "run"])
    (tmp_path / "script.py").write_text(script)
    command = [sys.executable, *(["script.py"] if how == "file" else [])]
    with started(command, tmp_path, stdin=subprocess.PIPE) as process:
        said, errors = process.communicate(script if how == "stdin" else None, timeout=120)
    assert process.returncode == 0, errors
    assert said.count("test accuracy at best validation") == 1
    assert epochs_of(tmp_path / "run") == 2


OWN_FUNCTION = """
import os
from gnnpipe.comm.launch import launch_local

def greet(name, store):
    print(f"{{name}} from {{os.environ['RANK']}}", flush=True)

{guard}
    try:
        launch_local(greet, ("hello",), 2)
    except (RuntimeError, ValueError) as error:
        if __name__ != "__main__":
            raise
        print(error)
"""


def slow(*values: object) -> ParameterSet:
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("how", "guard", "expected"),
    [
        slow("file", 'if __name__ == "__main__":', {"hello from 0", "hello from 1"}),
        slow("file", "if True:", {"starts a run whenever it is imported", "__main__"}),
        ("stdin", "if True:", {"what was defined in a notebook or at a prompt", "into a module"}),
    ],
)
def test_what_ranks_need_of_a_script_is_imported_or_the_guard_named(
    how: str, guard: str, expected: set[str], tmp_path: Path
) -> None:
    script = OWN_FUNCTION.format(guard=guard)
    (tmp_path / "script.py").write_text(script)
    command = [sys.executable, *(["script.py"] if how == "file" else [])]
    with started(command, tmp_path, stdin=subprocess.PIPE) as process:
        said, errors = process.communicate(script if how == "stdin" else None, timeout=120)
    assert process.returncode == 0, errors
    for words in expected:
        assert words in said, (said, errors)
    assert "Traceback" not in said + errors
