"""The README's commands run, its links lead somewhere, and its file map is complete."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.cli.commands import BIN, environment

ROOT = Path(__file__).parents[1]


def commands() -> list[str]:
    text = (ROOT / "README.md").read_text()
    block = text.split("<!-- commands:begin", 1)[1].split("<!-- commands:end", 1)[0]
    return re.search(r"```bash\n(.*?)```", block, re.S)[1].strip().splitlines()  # type: ignore[index]


@pytest.mark.slow
def test_commands(tmp_path: Path) -> None:
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    assert len(commands()) == 22
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for command in commands():
        done = subprocess.run(
            command, shell=True, cwd=tmp_path, env=environment() | {"PATH": path},
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, (command, done.stderr)
    assert (tmp_path / "runs" / "first" / "report.png").exists()
    assert (tmp_path / "runs" / "plans" / "comparison.png").exists()
    assert (tmp_path / "exported" / "grid" / "model.py").exists()


def test_links_lead_somewhere() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), (page.name, target)


def test_file_map_names_the_floors() -> None:
    text = (ROOT / "README.md").read_text()
    for floor in (path.parent.name for path in (ROOT / "gnnpipe").glob("*/__init__.py")):
        assert f"  {floor}/" in text
