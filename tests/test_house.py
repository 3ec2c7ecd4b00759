"""A module imports from its own floor or a lower one, and only `runtime` talks to torch.distributed."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "gnnpipe"
FLOORS = ["base", "graph", "ops", "model", "plan", "runtime", "train", "report", "cli"]
# the graph, the model and the plan stand side by side; a plan imports neither
LEVEL = {floor: level for level, floor in enumerate(FLOORS)}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def modules() -> Iterator[tuple[str, Path]]:
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).parts
        if len(parts) > 1:
            yield parts[0], path


def test_floors() -> None:
    for floor, path in modules():
        for name in imports(path):
            if name.startswith("gnnpipe."):
                assert LEVEL[name.split(".")[1]] <= LEVEL[floor], f"{path.name} imports {name}"


def test_plans_know_no_device_and_no_graph() -> None:
    for floor, path in modules():
        if floor == "plan":
            assert not [n for n in imports(path) if n.startswith(("torch", "gnnpipe.graph", "gnnpipe.model"))]


def test_only_runtime_is_distributed() -> None:
    for floor, path in modules():
        if floor != "runtime":
            assert not [name for name in imports(path) if name.startswith("torch.distributed")], path.name


def test_no_file_is_long() -> None:
    """A hint, not a wall: a file that says one thing may take some lines more than 300."""
    for _, path in modules():
        assert len(path.read_text().splitlines()) <= 340, path.name
