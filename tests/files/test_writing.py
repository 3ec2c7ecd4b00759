"""Files are written in one place, which follows no link and leaves nothing behind."""

from __future__ import annotations

import ast
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from gnnpipe.files import writing
from gnnpipe.files.writing import (
    append_text,
    copy_file,
    is_leftover,
    make_folder,
    open_lock,
    remove,
    write_file,
    write_tensors,
)

PACKAGE = Path(__file__).parents[2] / "gnnpipe"
# Calls that write, by their last name; `open` by its mode, and what os and shutil have by the module.
WRITERS = {
    "write_text", "write_bytes", "touch", "mkdir", "makedirs", "save", "savez", "savez_compressed", "savetxt",
    "tofile", "save_file", "serialize_file", "savefig", "rmtree", "copyfile", "copy2", "copytree",
    "symlink_to", "unlink", "rename", "renames", "hardlink_to", "NamedTemporaryFile", "mkstemp", "truncate",
    "ftruncate",
}  # fmt: skip
# Functions that write through the module, PyTorch's that is given our own writer, and a picture into memory.
OURS = {
    ("profile", "save"),
    ("job", "save"),
    ("storage", "save"),
    ("storage", "rename"),
    ("scratch", "rename"),
    ("download", "rename"),
    ("pictures", "savefig"),
    ("predict", "save"),
    ("columns", "fdopen"),
    ("columns", "open"),  # a member of an archive
    ("streams", "open"),  # the descriptors 1 and 2, which are open already
}


# What a launcher and the processes that it has started tell each other, through a pair of sockets or pipes
# that nobody else has.
PRIVATE = {"rank_server.py", "rank_process.py", "host.py", "asking.py"}


def calls() -> Iterator[tuple[Path, ast.Call, str]]:
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                function = node.func
                yield (
                    path,
                    node,
                    function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", ""),
                )


def opens_for_writing(call: ast.Call, name: str) -> bool:
    if name not in ("open", "fdopen"):
        return False
    words = [node.value for node in ast.walk(call) if isinstance(node, ast.Constant)]
    flags = [node.attr for node in ast.walk(call) if isinstance(node, ast.Attribute)]
    modes = [word for word in words if isinstance(word, str) and set(word) <= set("rwaxbt+") and word]
    return any(set(mode) & set("wax+") for mode in modes) or bool(
        {"O_CREAT", "O_TRUNC", "O_APPEND"} & set(flags)
    )


def test_nothing_else_opens_a_file_for_writing() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}:{call.lineno} {name}"
        for path, call, name in calls()
        if path.name != "writing.py" and (path.stem, name) not in OURS
        if name in WRITERS or opens_for_writing(call, name)
    ]
    assert not found
    assert any(path.name == "writing.py" and name == "open" for path, _, name in calls())  # it looks at calls


def test_nothing_else_parses_what_others_made() -> None:
    parsers = {
        "np.load", "torch.load", "pickle.load", "pickle.loads", "yaml.load", "yaml.safe_load", "json.load",
        "yaml.unsafe_load", "yaml.full_load", "load_yaml", "json.loads", "safe_open", "load_file",
        "np.fromfile", "np.memmap", "np.loadtxt", "np.genfromtxt",
    }  # fmt: skip
    found = [
        f"{path.relative_to(PACKAGE)}:{call.lineno}"
        for path, call, _ in calls()
        if path.parent.name != "files" and path.name not in PRIVATE and ast.unparse(call.func) in parsers
    ]
    assert not found


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    path = tmp_path / "victim"
    path.write_text("mine")
    return path


def test_a_link_is_replaced_not_followed(tmp_path: Path, victim: Path) -> None:
    link = tmp_path / "folder" / "link"
    link.parent.mkdir()
    for write in (
        lambda: write_file(link, "new"),
        lambda: write_tensors(link, {"a": torch.ones(2)}, {}),
        lambda: copy_file(tmp_path / "folder" / "source", link),
    ):
        (tmp_path / "folder" / "source").write_text("new")
        link.unlink(missing_ok=True)
        link.symlink_to(victim)
        write()
        assert not link.is_symlink()
        assert victim.read_text() == "mine"


def test_what_can_not_be_replaced_is_refused(tmp_path: Path, victim: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(victim)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "to-folder").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for act in (
        lambda: append_text(link, "new"),
        lambda: copy_file(link, tmp_path / "copy"),
        lambda: open_lock(link),
        lambda: open_lock(tmp_path / "dangling"),
        lambda: make_folder(tmp_path / "to-folder"),
    ):
        with pytest.raises(OSError, match="it is a link, and links are not followed here"):
            act()
    assert victim.read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()
    os.mkfifo(tmp_path / "pipe")
    for act in (lambda: append_text(tmp_path / "pipe", "x"), lambda: write_file(tmp_path / "pipe", "x")):
        with pytest.raises(OSError, match="it is no ordinary file"):
            act()


def test_modes_follow_the_umask(tmp_path: Path) -> None:
    for mask, mode in ((0o022, 0o644), (0o027, 0o640)):
        before = os.umask(mask)
        try:
            write_file(tmp_path / "text", "x")
            write_tensors(tmp_path / "tensors", {"a": torch.ones(2)}, {})
        finally:
            os.umask(before)
        assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("text", "tensors")} == {mode}


def test_a_failure_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("before")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="a folder stands there") as caught:
        write_file(tmp_path / "folder", "x")
    assert caught.value.filename == str(tmp_path / "folder")

    def full(file: int, content: memoryview) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    for write in (
        lambda: write_file(tmp_path / "file", "after"),
        lambda: write_tensors(tmp_path / "file", {"a": torch.ones(2)}, {}),
    ):
        with pytest.raises(OSError, match="No space left") as caught:
            write()
        assert caught.value.filename == str(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "before"
    assert {path.name for path in tmp_path.iterdir()} == {"file", "folder"}


def test_removing_spares_what_a_link_leads_to(tmp_path: Path, victim: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "link").symlink_to(victim)
    (folder / "up").symlink_to(tmp_path)
    remove(folder / "up")
    remove(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["victim"]


def test_leftovers_of_the_killed_are_known_by_their_names(tmp_path: Path) -> None:
    with writing.aside(tmp_path / "x") as other:
        assert is_leftover(other.name)
        write_file(other, "x")
    assert not is_leftover("records.jsonl.part")
    write_file(tmp_path / ("n" * 255), "a name as long as a name can be")


def test_mapped_tensors_stand_at_multiples_of_their_size(tmp_path: Path) -> None:
    tensors = {
        "mask": torch.tensor([True, False, True]),
        "rows": torch.randn(3, 5),
        "half": torch.randn(3).bfloat16(),
        "ids": torch.arange(7),
        "empty": torch.empty(0, 4),
        "turned": torch.randn(4, 6).T,
    }
    write_tensors(tmp_path / "file", tensors, {"who": "me"})
    found = load_file(tmp_path / "file")
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
    header = (tmp_path / "file").read_bytes()
    assert (int.from_bytes(header[:8], "little") + 8) % 8 == 0
