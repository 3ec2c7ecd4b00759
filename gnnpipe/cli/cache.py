"""``gnnpipe cache``: list or remove the prepared graphs that a folder keeps."""

from __future__ import annotations

import re
import sys
import time
from datetime import datetime
from pathlib import Path

from gnnpipe.cli.parser import Parser
from gnnpipe.config.values import Value
from gnnpipe.errors import ConfigError, not_known, shown
from gnnpipe.files.store import Listed, entries, remove_entry
from gnnpipe.system.failures import advice, reason
from gnnpipe.system.words import readable_bytes

DESCRIPTION = """List what the cache in FOLDER keeps (graph, cut, size, when it was made and last used), or
remove it. Entries that a running process uses stay, and so do files that are not the cache's."""

EPILOG = """Examples: gnnpipe cache list ~/gnnpipe-cache
          gnnpipe cache clear ~/gnnpipe-cache --older 30d"""

ACTIONS = ("list", "clear")
_SECONDS = {"d": 86_400.0, "h": 3_600.0}


def run(arguments: list[str]) -> int:
    """List or clear as ``arguments`` say; return the exit code."""
    parser = Parser("gnnpipe cache", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("action", type=Value("action", str), metavar="{list,clear}", help="What to do.")
    parser.add_argument("folder", type=Value("folder", str), help="The folder that --cache names.")
    parser.add_argument(
        "--older", type=Value("older", str), metavar="AGE",
        help="With clear: only what was last used longer ago, in days or hours, as 30d or 12h.",
    )  # fmt: skip
    chosen = parser.read(arguments)
    if chosen.action not in ACTIONS:
        raise ConfigError(f"action: {not_known(chosen.action, ACTIONS, 'use')}")
    if chosen.older is not None and chosen.action != "clear":
        raise ConfigError(f"older: {shown(chosen.older)} says nothing about list; leave it out")
    folder = Path(chosen.folder).expanduser()
    try:
        found = entries(folder)
        lines = _listed(found) if chosen.action == "list" else _cleared(found, _age(chosen.older))
    except OSError as error:
        raise ConfigError(
            f"folder: can't use '{shown(folder)}' ({reason(error, str(folder))}); {advice(error)}"
        ) from None
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0


def _listed(found: list[Listed]) -> list[str]:
    """One line for each entry, last used first, and their sum."""
    lines = [f"{'size':>10}  {'made':<16}  {'last used':<16}  what"]
    total = 0
    for entry in found:
        used = f"{datetime.fromtimestamp(entry.last_used):%F %H:%M}"
        about = entry.about
        if about is None:
            lines.append(f"{'':>10}  {'':<16}  {used:<16}  not finished, or damaged: {entry.folder.name}")
            continue
        total += about.size
        label = about.label
        what = ", ".join(shown(word) for word in (label.what, label.graph, label.cut) if word)
        lines.append(f"{readable_bytes(about.size):>10}  {shown(about.made)[:16]:<16}  {used:<16}  {what}")
    lines.append(f"{readable_bytes(total):>10}  in {len(found)} entries")
    return lines


def _cleared(found: list[Listed], age: float) -> list[str]:
    """Remove the entries that were not used for ``age`` seconds; say what was removed and what stays."""
    lines, total, count = [], 0, 0
    for entry in found:
        if time.time() - entry.last_used < age:
            continue
        outcome = remove_entry(entry.folder)
        if outcome == "in use":
            lines.append(f"{entry.folder.name} stays: a running process uses it")
            continue
        if outcome == "foreign":
            lines.append(f"'{entry.folder}' stays: it holds files that are not the cache's")
        total += entry.about.size if entry.about else 0
        count += 1
    return [*lines, f"removed {count} of {len(found)} entries, {readable_bytes(total)}"]


def _age(text: str | None) -> float:
    """Seconds that ``30d`` or ``12h`` stand for; 0 for None. Raises ConfigError for another text."""
    if text is None:
        return 0.0
    found = re.fullmatch(r"(\d{1,6})([dh])", text.strip())
    if not found:
        raise ConfigError(f"older: '{shown(text)}' can't be used; write days as 30d, or hours as 12h")
    return int(found[1]) * _SECONDS[found[2]]
