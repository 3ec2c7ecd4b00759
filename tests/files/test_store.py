"""A folder of entries: each made once, whole, checked when it is read, and kept as long as it is used."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from gnnpipe.files import store as store_module
from gnnpipe.files.folder_lock import LOCK
from gnnpipe.files.store import ABOUT, CONTENT, Found, Label, Store, entries, remove_entry
from gnnpipe.files.writing import write_file
from tests.cli.commands import environment

NAME = "0123456789abcdef" * 2
LABEL = Label("text", "a graph", "whole")


@contextmanager
def opened(folder: Path, lines: list[str] | None = None) -> Iterator[Store]:
    with Store(folder, nullcontext, (lines if lines is not None else []).append) as store:
        yield store


def written(text: str, count: list[str] | None = None) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        if count is not None:
            count.append(text)
        write_file(path, text)

    return make


def fine(_: Path) -> None:
    pass


def use(
    folder: Path, text: str = "one", count: list[str] | None = None, lines: list[str] | None = None
) -> Found:
    with opened(folder, lines) as store:
        found = store.use(NAME, LABEL, written(text, count), fine)
    assert found is not None
    return found


def test_an_entry_is_made_once(tmp_path: Path) -> None:
    count: list[str] = []
    first, second = (use(tmp_path / "cache", count=count) for _ in range(2))
    assert (first.is_new, second.is_new) == (True, False)
    assert count == ["one"]
    assert second.path.read_text() == "one"
    assert second.about == first.about
    assert (first.about.label, first.about.size) == (LABEL, 3)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / CONTENT).write_text("two"), "does not have the checksum"),
        (lambda folder: (folder / CONTENT).write_text("longer"), "has 6 bytes instead of 3"),
        (lambda folder: (folder / CONTENT).unlink(), "No such file"),
        (lambda folder: (folder / ABOUT).write_text("{"), "Expecting"),
        (lambda folder: (folder / ABOUT).write_text("{}"), "label is absent"),
    ],
)
def test_a_damaged_entry_is_made_anew(damage: Callable[[Path], None], words: str, tmp_path: Path) -> None:
    use(tmp_path)
    damage(tmp_path / NAME)
    lines: list[str] = []
    assert use(tmp_path, lines=lines).is_new
    assert len(lines) == 1
    assert words in lines[0]
    assert not use(tmp_path).is_new


def test_content_of_another_kind_is_made_anew(tmp_path: Path) -> None:
    use(tmp_path, "old")

    def check(path: Path) -> None:
        if path.read_text() != "new":
            raise ValueError("it is old")

    with opened(tmp_path, lines := []) as store:
        found = store.use(NAME, LABEL, written("new"), check)
    assert found is not None
    assert found.is_new
    assert "it is old" in lines[0]


def test_links_are_not_followed(tmp_path: Path) -> None:
    use(tmp_path / "cache")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("one")
    content = tmp_path / "cache" / NAME / CONTENT
    content.unlink()
    content.symlink_to(elsewhere)
    assert use(tmp_path / "cache").is_new
    assert not content.is_symlink()
    assert elsewhere.read_text() == "one"


def test_one_of_two_makes_it_and_the_other_waits(tmp_path: Path) -> None:
    count: list[str] = []
    waited: list[bool] = []

    def slow(path: Path) -> None:
        count.append("made")
        time.sleep(0.3)
        write_file(path, "one")

    @contextmanager
    def waiting() -> Iterator[None]:
        waited.append(True)
        yield

    def run(found: list[Found | None]) -> None:
        with Store(tmp_path, waiting, lambda _: None) as store:
            found.append(store.use(NAME, LABEL, slow, fine))

    found: list[Found | None] = []
    threads = [threading.Thread(target=run, args=(found,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count == ["made"]
    assert waited
    assert sorted(entry.is_new for entry in found if entry) == [False, False, True]


KILLED = f"""
import os, signal
from contextlib import nullcontext
from pathlib import Path
from gnnpipe.files.store import Label, Store
from gnnpipe.files.writing import aside
def make(path):
    with aside(path) as unfinished:
        unfinished.write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)
with Store(Path("cache"), nullcontext, print) as store:
    store.use("{NAME}", Label("text", "a graph", "whole"), make, print)
"""


def test_what_a_killed_process_leaves_is_replaced(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path, env=environment(), check=False)
    assert done.returncode == -signal.SIGKILL
    folder = tmp_path / "cache" / NAME
    assert len(list(folder.iterdir())) == 2  # the lock file and the unfinished one
    assert entries(tmp_path / "cache")[0].about is None
    assert use(tmp_path / "cache").is_new
    assert sorted(path.name for path in folder.iterdir()) == sorted([LOCK, CONTENT, ABOUT])


def test_a_failure_leaves_nothing_that_counts(tmp_path: Path) -> None:
    def fail(_: Path) -> None:
        raise OSError(28, "No space left on device")

    with opened(tmp_path) as store, pytest.raises(OSError, match="No space"):
        store.use(NAME, LABEL, fail, fine)
    assert use(tmp_path).is_new


def test_an_entry_in_use_stays(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        found = store.use(NAME, LABEL, written("one"), fine)
        assert found is not None
        assert remove_entry(tmp_path / NAME) == "in use"
        with opened(tmp_path) as other:  # a second one uses it meanwhile
            again = other.use(NAME, LABEL, written("two"), fine)
            assert again is not None
            assert not again.is_new
        assert found.path.read_text() == "one"
    assert remove_entry(tmp_path / NAME) == "removed"
    assert not (tmp_path / NAME).exists()


def test_a_damaged_entry_that_is_in_use_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "SECONDS_FOR_DAMAGED", 0.1)
    with opened(tmp_path) as user:
        user.use(NAME, LABEL, written("one"), fine)
        (tmp_path / NAME / CONTENT).write_text("two")
        with opened(tmp_path, lines := []) as store:
            assert store.use(NAME, LABEL, written("one"), fine) is None
    assert len(lines) == 1
    assert use(tmp_path).is_new


def test_only_files_of_the_store_are_removed(tmp_path: Path) -> None:
    use(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / NAME / "notes").write_text("mine")
    assert [entry.folder.name for entry in entries(tmp_path)] == [NAME]
    assert remove_entry(tmp_path / NAME) == "foreign"
    assert [path.name for path in (tmp_path / NAME).iterdir()] == ["notes"]


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_only_be_read_is_used(tmp_path: Path) -> None:
    use(tmp_path)
    for path in (tmp_path / NAME, tmp_path):
        path.chmod(0o555)
    (tmp_path / NAME / LOCK).chmod(0o444)
    assert not use(tmp_path).is_new


def test_the_lock_file_of_a_removed_entry_locks_nothing(tmp_path: Path) -> None:
    """A process that has opened the file before it was removed must open the new one."""
    use(tmp_path)
    opened_before = os.open(tmp_path / NAME / LOCK, os.O_RDWR)
    remove_entry(tmp_path / NAME)
    with opened(tmp_path) as store:
        store.use(NAME, LABEL, written("one"), fine)
        assert not os.path.samestat(os.fstat(opened_before), (tmp_path / NAME / LOCK).stat())
        assert remove_entry(tmp_path / NAME) == "in use"
    os.close(opened_before)
