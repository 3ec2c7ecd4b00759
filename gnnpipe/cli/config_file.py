"""Files that ``--config`` names, read as flags."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gnnpipe.errors import ConfigError, did_you_mean, shown
from gnnpipe.files.reading import Content, read_yaml_text
from gnnpipe.system.failures import reason


def split_off(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Paths of the files that ``--config`` names, and the other arguments."""
    paths, others = [], []
    rest = iter(arguments)
    for argument in rest:
        name, given, value = argument.partition("=")
        if name != "--config":
            others.append(argument)
            continue
        path = value if given else next(rest, "")
        if not path or path.startswith("--"):
            raise ConfigError("config: its value is missing; name a YAML file, as --print_config prints one")
        paths.append(path)
    return paths, others


def as_flags(path: str, known: Sequence[str]) -> list[str]:
    """The flags that a config file stands for.

    Args:
        path: of the file.
        known: all flags of the command.

    Raises:
        ConfigError: it can't be read, or has a field that is no flag.
    """
    return list(_flags(read_config(path), known, ""))


def check_flag(flag: str, known: Sequence[str]) -> None:
    """Raise ConfigError unless a flag is known; the beginning of one is not."""
    if flag in known:
        return
    hint = did_you_mean(flag, known)
    whole, _, part = flag.rpartition(".")
    if whole in known:  # jsonargparse would take --lr.x for a part of --lr
        raise ConfigError(
            f"{shown(flag)} is not known, as {whole} has one value and no part '{shown(part)}'"
            f"{hint or '; --help lists all flags'}"
        )
    raise ConfigError(f"{shown(flag)} is not known{f'{hint} --help' if hint else '; --help'} lists all flags")


def read_config(path: str) -> Content:
    """The fields of a file that ``--config`` names, with their values; raises ConfigError."""
    try:
        return read_yaml_text(Path(path), link=True)[1]
    except (OSError, ValueError) as error:
        why = reason(error, str(Path(path))) if isinstance(error, OSError) else str(error)
        raise ConfigError(
            f"config: '{shown(path)}' can't be read ({shown(why)}); name a YAML file, as "
            "--print_config prints one"
        ) from None


def _flags(content: dict[Any, Any], known: Sequence[str], section: str) -> Iterator[str]:
    """The flags of a mapping's fields. ``section`` is empty, or a nested mapping's name and a dot."""
    for name, value in content.items():
        key = f"{section}{name}"
        flag = f"--{key}" if "." in key else f"--{key.replace('_', '-')}"
        if key == "config":
            raise ConfigError("config: a file can't name another one; give --config twice")
        members = [other for other in known if other.startswith(f"--{key}.")]
        if members and flag not in known:
            if not isinstance(value, dict):
                first = members[0].rpartition(".")[2]
                raise ConfigError(
                    f"{shown(key)}: '{shown(value)}' must be written with its fields, as in "
                    f"{shown(key)}: {{{first}: ...}}"
                )
            yield from _flags(value, known, f"{key}.")
            continue
        check_flag(flag, known)
        yield as_flag(flag, value, known)


def as_flag(flag: str, value: Any, known: Sequence[str] = ()) -> str:
    """A flag with its value, as on a command line. A flag with a ``--no-`` form in ``known`` is a switch."""
    opposite = f"--no-{flag[2:]}"
    if opposite in known:
        if not isinstance(value, bool):
            raise ConfigError(f"{flag[2:]}: '{shown(value)}' can't be used; expected true or false")
        return flag if value else opposite
    if value is None:
        return f"{flag}=null"
    return f"{flag}={value}" if isinstance(value, str) else f"{flag}={_text(value)}"


def _text(value: Any) -> str:
    """A value as JSON, which is YAML too; Python would write True and None."""
    try:
        return json.dumps(value, default=str)
    except (TypeError, ValueError, RecursionError):
        return shown(value)
