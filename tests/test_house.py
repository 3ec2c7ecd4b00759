"""A module imports from its own floor or a lower one, never by a string, and only `comm` starts groups."""

from __future__ import annotations

import ast
import json
import runpy
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

PACKAGE = Path(__file__).parents[1] / "gnnpipe"
FLOORS = [
    "errors", "system", "files", "config", "graph", "schedule", "ops", "nn", "comm", "engine", "checkpoint",
    "planner", "records", "export", "run", "report", "api", "cli",
]  # fmt: skip
LEVEL = {floor: level for level, floor in enumerate(FLOORS)}
LONG = 340
# Modules of the lower floors whose subject is the device.
KNOWING = ("system/device", "system/memory", "system/versions")


def imports(path: Path) -> Iterator[str]:
    """Modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def modules() -> Iterator[tuple[str, str, Path]]:
    """Floor, name and file of every module, except the package's own ``__init__`` and ``__main__``."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).with_suffix("").as_posix()
        if not name.startswith("__"):
            yield name.split("/")[0], name, path


def test_every_folder_is_a_floor() -> None:
    assert {floor for floor, _, _ in modules()} <= set(FLOORS)


def test_floors() -> None:
    for floor, name, path in modules():
        for imported in imports(path):
            if imported.startswith("gnnpipe."):
                other = imported.split(".")[1]
                # gnnpipe.__version__ is nobody's floor
                assert LEVEL.get(other, 0) <= LEVEL[floor], f"{name} imports {imported}"


def test_nothing_is_imported_by_a_string() -> None:
    """Neither here nor by a process that is told a module's name."""
    for _, name, path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                parts = node.value.split(".")
                target = PACKAGE.joinpath(*parts[1:])
                is_module = parts[0] == "gnnpipe" and len(parts) > 1 and " " not in node.value
                found = is_module and (target.is_dir() or target.with_suffix(".py").is_file())
                assert not found, f"{name} holds the name {node.value}"


def test_plans_know_no_device_and_no_graph() -> None:
    heavy = ("torch", "gnnpipe.graph", "gnnpipe.nn")
    for floor, name, path in modules():
        if floor in ("errors", "system", "config", "schedule"):
            bad = [found for found in imports(path) if found.startswith(heavy)]
            assert not bad or name in KNOWING, (name, bad)


def test_comm_alone_is_distributed() -> None:
    for floor, name, path in modules():
        if floor != "comm":
            assert not [found for found in imports(path) if found.startswith("torch.distributed")], name


@pytest.mark.filterwarnings("default")
def test_long_files_are_mentioned() -> None:
    """A size is a hint, not a wall."""
    for _, name, path in modules():
        lines = len(path.read_text().splitlines())
        if lines > LONG:
            warnings.warn(f"{name} has {lines} lines", stacklevel=1)


def test_the_picture_of_the_floors_shows_todays_imports() -> None:
    """``python docs/floors.py`` draws it again."""
    script = runpy.run_path(str(PACKAGE.parent / "docs" / "floors.py"))
    with Image.open(script["PICTURE"]) as picture:
        assert json.loads(picture.info["Description"]) == script["floors"]()
