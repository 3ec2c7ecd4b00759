"""The parser of a command, made from a frozen dataclass: flags are its fields, help their docstrings.

A field that a command can't change (``init=False``) is no flag.
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

# `--staleness paper` means `--staleness.preset paper`.
SHORT_FORMS = {"staleness": "staleness.preset"}
WIDTH = 110  # of help, in characters: it holds sentences


class HelpFormatter(DefaultHelpFormatter):
    """Formats help with lines of `WIDTH`."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=WIDTH)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        """Fill lines with a text, but for examples, which stand one below the other."""
        return text if text.startswith("Example") else super()._fill_text(text, width, indent)


class Parser(ArgumentParser):
    """Raises ConfigError, in one line with the nearest known flag, instead of printing the usage.

    A flag is given by its whole name: not by its beginning (``--lay``), nor with a part (``--lr.x``).

    Args:
        prog: the command.
        usual: flags that ``--help`` explains. It lists the names of the others, and ``--help all`` explains
            them too. By default all flags are usual.
    """

    def __init__(self, prog: str, usual: Collection[str] = (), **options: Any) -> None:
        super().__init__(prog=prog, formatter_class=HelpFormatter, allow_abbrev=False, **options)
        self._usual = {"help", "config", "print_config", *usual} if usual else set()
        self._others = ""

    def read(self, arguments: Sequence[str]) -> Namespace:
        """Parse a command line; flags win over files, wherever they stand. Raises ConfigError."""
        # Names are checked here and not by jsonargparse, which takes unknown ones for parts of others. Files
        # become flags ahead of the user's, so that the user's win as the later ones.
        known = [option for action in self._actions for option in action.option_strings]
        paths, flags = split_off([_long_form(argument) for argument in arguments])
        for flag in flags:
            if flag.startswith("--") and flag != "--":
                check_flag(flag.partition("=")[0], known)
        # "all" behind --help is no flag of the parser; without it the help is cut down
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
        """Remove the flags that are not usual from the help, and list their names at its end."""
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
        """Help of the flags that are explained, then the names of the others."""
        text = super().format_help(*arguments, **options)
        return f"{text}\n{self._others}" if self._others else text

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise ConfigError with jsonargparse's message in our words."""
        raise ConfigError(_explain(message))


def _file_flags(paths: Sequence[str], known: Sequence[str], flags: Sequence[str]) -> Iterator[str]:
    """The flags that config files stand for. A file may be somebody else's, so ``--overwrite``, by which a
    run is lost, must come from the command line."""
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
    """A text behind ``lead``, in lines of `WIDTH` that are indented as far."""
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
    """A parser with a flag for each field of ``config`` (nested ones have a dot), and ``--config``.

    Args:
        command: the command's name.
        config: a frozen dataclass with a docstring under each field.
        description: text of the help above the flags.
        epilog: text below the flags.
        operands: shown in the usage line behind the command.
        usual: flags that ``--help`` explains, as for `Parser`.
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
        if prefix not in groups:  # the first field of a nested config: its docstring titles a group
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
    """Every leaf field with its dotted key, type and docstring."""
    hints = get_type_hints(config)
    # from the base to the subclass, which may document a field anew
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
    """Add a field's flag: ``--weight-decay`` at the top, ``--optimizer.weight_decay`` where it is nested."""
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
    """The words of a Literal, also an optional one; none for a list of words, which is no single one."""
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


def given(arguments: Sequence[str]) -> set[str]:
    """Fields whose flags are on a command line itself, and not in a file that it names."""
    flags = (argument.partition("=")[0] for argument in arguments)
    return {flag[2:].replace("-", "_") for flag in flags if flag.startswith("--")}


def build(config: type[_Config], namespace: Namespace) -> _Config:
    """Make the dataclass from a parsed command line, of which other flags are ignored."""
    hints = get_type_hints(config)
    values = {}
    for item in (item for item in fields(config) if item.init):  # type: ignore[arg-type]
        value, hint = namespace[item.name], hints[item.name]
        value = tuple(value) if isinstance(value, list) else value
        values[item.name] = build(hint, value) if isinstance(value, Namespace) else value
    return config(**values)


def _explain(message: str) -> str:
    """A message of jsonargparse as one line: key, value, what was expected, way out."""
    message = re.sub(r"\s+", " ", message).strip()
    for pattern, words in _MESSAGES:
        found = re.match(pattern, message)
        if found:
            return words.format(*(shown(group) for group in found.groups()))
    return shown(message)


# Patterns of argparse's and jsonargparse's messages, and our words for them.
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
    (r"the following arguments are required: (\S+)", "{0}: it is missing; --help says what belongs there"),
    (
        r"argument --(\S+?)/\S+: ignored explicit argument '(.*)'",
        "{0}: '{1}' can't be used; write --{0} or --no-{0}",
    ),
)
