"""The parser of a command, made from a frozen dataclass: flags are its fields, help their docstrings.

A field that is not given (``init=False``) is no flag.
"""

from __future__ import annotations

import re
import textwrap
from argparse import SUPPRESS, Action
from collections.abc import Collection, Iterator, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, Literal, NoReturn, TypeVar, get_args, get_origin, get_type_hints

import docstring_parser
from jsonargparse import ActionYesNo, ArgumentParser, DefaultHelpFormatter, Namespace

from gnnpipe.cli.config_file import as_flags, check_flag, split_off
from gnnpipe.config.values import RefusedError, Value
from gnnpipe.errors import ConfigError, shown

_Config = TypeVar("_Config")

# Words a user writes for a nested field: `--staleness paper` means the preset.
SHORT_FORMS = {"staleness": "staleness.preset"}


WIDTH = 110  # for sentences


class HelpFormatter(DefaultHelpFormatter):
    """Wide enough for sentences."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=WIDTH)


class Parser(ArgumentParser):
    """Raises ConfigError, in one line with the nearest known flag, instead of printing its usage.

    A flag is its whole name: neither the beginning of one nor a part of its value (``--lr.x``) stands for it.

    Args:
        prog: the command.
        usual: flags that ``--help`` explains; it names the others, which ``--help all`` explains too. By
            default all are.
    """

    def __init__(self, prog: str, usual: Collection[str] = (), **options: Any) -> None:
        super().__init__(prog=prog, formatter_class=HelpFormatter, allow_abbrev=False, **options)
        self._usual = {"help", "config", "print_config", *usual} if usual else set()
        self._others = ""

    def read(self, arguments: Sequence[str]) -> Namespace:
        """Parse a command line; flags win over files, wherever they stand. Raises ConfigError."""
        known = [option for action in self._actions for option in action.option_strings]
        paths, flags = split_off([_long_form(argument) for argument in arguments])
        for flag in flags:
            if flag.startswith("--") and flag != "--":
                check_flag(flag.partition("=")[0], known)
        if self._usual and (asked := next((flag for flag in flags if flag in ("-h", "--help")), None)):
            following = flags.index(asked) + 1
            if flags[following : following + 1] == ["all"]:
                del flags[following]
            else:
                self._shorten()
        try:
            return self.parse_args([*_file_flags(paths, known, flags), *flags])
        except RefusedError as error:
            raise ConfigError(str(error)) from None

    def _shorten(self) -> None:
        """Leave the help of all but the usual flags out, and name them at its end."""
        lines = []
        for group in self._action_groups:
            others = [action for action in group._group_actions if not self._is_usual(action)]
            name, _, about = (group.title or "").partition(": ")
            if about and others:
                lines.append(_filled(f"  --{name + '.*':<14}", about))
            elif others:
                flags = [action.option_strings[0] for action in others if action.option_strings]
                lines.append(_filled("  ", " ".join(flags)))
            for action in others:
                action.help = SUPPRESS
        self._others = "\n".join([f"{self.prog} --help all explains these too:", *lines, ""])

    def _is_usual(self, action: Action) -> bool:
        names = [option.lstrip("-") for option in action.option_strings]
        return not names or not self._usual.isdisjoint(names)

    def format_help(self, *arguments: Any, **options: Any) -> str:
        """The flags that are explained, then the names of those that are not."""
        text = super().format_help(*arguments, **options)
        return f"{text}\n{self._others}" if self._others else text

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Turn the library's message into ours."""
        raise ConfigError(_explain(message))


def _file_flags(paths: Sequence[str], known: Sequence[str], flags: Sequence[str]) -> Iterator[str]:
    """What the files stand for. A file may be somebody else's, so that a user's run is replaced only if the
    command line says so."""
    decided = any(flag.partition("=")[0] in ("--overwrite", "--no-overwrite") for flag in flags)
    for path in paths:
        for flag in as_flags(path, known):
            if flag == "--overwrite" and not decided:
                raise ConfigError(
                    f"overwrite: '{shown(path)}' can't ask for it, as a run would be lost; give --overwrite "
                    "itself"
                )
            yield flag


def _filled(lead: str, text: str) -> str:
    """A text with lines of the usual width, all as far in as the first."""
    indent = " " * len(lead)
    return textwrap.fill(text, WIDTH, initial_indent=lead, subsequent_indent=indent, break_on_hyphens=False)


def make_parser(
    command: str,
    config: type,
    description: str,
    epilog: str,
    operands: str = "",
    usual: Collection[str] = (),
) -> Parser:
    """A parser whose flags are the fields of ``config``, nested ones with a dot, plus ``--config``.

    Args:
        command: the command's name.
        config: a frozen dataclass with a docstring under each field.
        description: stands above the flags.
        epilog: stands below them.
        operands: what else the usage line shows.
        usual: flags that ``--help`` explains, see `Parser`.
    """
    parser = Parser(
        f"gnnpipe {command}",
        usual,
        usage=f"gnnpipe {command}{operands} [--config FILE] [flags]",
        description=description,
        epilog=epilog,
    )
    parser.add_argument("--config", action="config", help="YAML file with any of these fields; flags win.")
    groups = {"": parser.add_argument_group(command)}
    for key, item, hint, doc in _walk(config):
        prefix = key.rpartition(".")[0]
        if prefix not in groups:
            section = next(f for f in fields(config) if f.name == prefix)
            assert callable(section.default_factory)
            title = docstring_parser.parse(type(section.default_factory()).__doc__ or "").short_description
            groups[prefix] = parser.add_argument_group(f"{prefix}: {_help(title or '').rstrip('.')}")
        _add(groups[prefix], key, item, hint, doc)
    return parser


def parse(parser: Parser, config: type[_Config], arguments: Sequence[str]) -> _Config:
    """Parse a command line into ``config``; raises ConfigError."""
    return build(config, parser.read(arguments))


def _walk(config: type, prefix: str = "") -> Iterator[tuple[str, Field[Any], Any, str]]:
    """Every leaf field with its dotted key, type and docstring, which may be that of a base's field."""
    hints = get_type_hints(config)
    parsed = map(docstring_parser.parse_from_object, reversed(config.__mro__[:-1]))
    docs = {item.arg_name: item.description or "" for base in parsed for item in base.params}
    for item in (item for item in fields(config) if item.init):
        hint = hints[item.name]
        if is_dataclass(hint):
            assert isinstance(hint, type)
            yield from _walk(hint, f"{prefix}{item.name}.")
        else:
            yield prefix + item.name, item, hint, docs[item.name]


def _add(group: Any, key: str, item: Field[Any], hint: Any, doc: str) -> None:
    """Top-level flags are written with dashes, nested ones as the fields they are."""
    flag = key if "." in key else key.replace("_", "-")
    choices = _choices(hint)
    assert item.default is not MISSING
    default = list(item.default) if isinstance(item.default, tuple) else item.default
    options: dict[str, Any] = {"metavar": "{" + ",".join(choices) + "}"} if choices else {}
    if hint is bool:
        options["action"] = ActionYesNo(no_prefix="no-")
    else:
        options["type"] = Value(flag, hint)
    group.add_argument(f"--{flag}", default=default, help=_help(doc), **options)


def _help(doc: str) -> str:
    return re.sub(r"\s+", " ", doc).replace("``", "")


def _choices(hint: Any) -> tuple[str, ...]:
    """The words of a Literal, also an optional one; a list of them is read by the library."""
    if get_origin(hint) is tuple:
        return ()
    for option in (hint, *get_args(hint)):
        if get_origin(option) is Literal:
            return get_args(option)
    return ()


def _long_form(argument: str) -> str:
    for short, long in SHORT_FORMS.items():
        if argument == f"--{short}" or argument.startswith(f"--{short}="):
            return argument.replace(f"--{short}", f"--{long}", 1)
    return argument


def build(config: type[_Config], namespace: Namespace) -> _Config:
    """The dataclass that a namespace spells out; what it has besides is left out."""
    hints = get_type_hints(config)
    values = {}
    for item in (item for item in fields(config) if item.init):  # type: ignore[arg-type]
        value, hint = namespace[item.name], hints[item.name]
        value = tuple(value) if isinstance(value, list) else value
        values[item.name] = build(hint, value) if isinstance(value, Namespace) else value
    return config(**values)


def _explain(message: str) -> str:
    """The library's message as one line: the key, the value, what was expected, the cure."""
    message = re.sub(r"\s+", " ", message).strip()
    for pattern, words in _MESSAGES:
        found = re.match(pattern, message)
        if found:
            return words.format(*(shown(group) for group in found.groups()))
    return shown(message)


_MESSAGES = (
    (
        r"unrecognized arguments: (-[^-\s][^\s]*)",
        "{0} is not known; flags begin with two dashes; --help lists all flags",
    ),
    (
        r"unrecognized arguments: (?:-- )?([^\s]+)",
        "'{0}' stands alone; a value follows its flag, as in --dataset {0}",
    ),
    (
        r"argument --(\S+): expected .*argument",
        "{0}: its value is missing; write it behind --{0}, or leave the flag out",
    ),
    (
        r"argument --(\S+?)/\S+: ignored explicit argument '(.*)'",
        "{0}: '{1}' can't be used; write --{0} or --no-{0}",
    ),
)
