"""The parser of a command, made from a frozen dataclass: flags are its fields, help their docstrings."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, Literal, NoReturn, TypeVar, get_args, get_origin, get_type_hints

import docstring_parser
from jsonargparse import ActionYesNo, ArgumentParser, DefaultHelpFormatter, Namespace

from gnnpipe.base.errors import ConfigError, did_you_mean
from gnnpipe.cli.roots import check_files

_Config = TypeVar("_Config")

# Words a user writes for a nested field: `--staleness paper` means the preset.
SHORT_FORMS = {"staleness": "staleness.preset"}


class HelpFormatter(DefaultHelpFormatter):
    """Wide enough for sentences."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=110)


class Parser(ArgumentParser):
    """Raises ConfigError, in one line with the nearest known flag, instead of printing its usage."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Turn the library's message into ours."""
        raise ConfigError(_explain(message, self._known_flags()))

    def _known_flags(self) -> list[str]:
        return [option for action in self._actions for option in action.option_strings]


def make_parser(command: str, config: type, description: str, epilog: str, operands: str = "") -> Parser:
    """A parser whose flags are the fields of ``config``, nested ones with a dot, plus ``--config``.

    Args:
        command: the command's name.
        config: a frozen dataclass with a docstring under each field.
        description: stands above the flags.
        epilog: stands below them.
        operands: what else the usage line shows.
    """
    parser = Parser(
        prog=f"gnnpipe {command}",
        usage=f"gnnpipe {command}{operands} [--config FILE] [flags]",
        description=description,
        epilog=epilog,
        formatter_class=HelpFormatter,
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
    return build(config, read(parser, arguments))


def read(parser: Parser, arguments: Sequence[str]) -> Namespace:
    """Parse a command line; raises ConfigError."""
    check_files(arguments)
    for argument in arguments:
        value = argument.rpartition("=")[2]
        if re.fullmatch(r"\d+(:[0-5]?\d)+", value):  # YAML 1.1 reads 20:23 as 20 * 60 + 23
            raise ConfigError(f"'{value}' is no value of any flag; --help says how schedules are written")
    try:
        return parser.parse_args([_long_form(argument) for argument in arguments])
    except UnicodeDecodeError as error:
        raise ConfigError(f"config: the file is not text ({error}); name a YAML file") from None


def _walk(config: type, prefix: str = "") -> Iterator[tuple[str, Field[Any], Any, str]]:
    """Every leaf field with its dotted key, type and docstring."""
    hints = get_type_hints(config)
    parsed = docstring_parser.parse_from_object(config)
    docs = {item.arg_name: item.description or "" for item in parsed.params}
    for item in fields(config):
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
    options: dict[str, Any] = {"metavar": "{" + ",".join(choices) + "}"} if choices else {}
    if hint is bool:
        options["action"] = ActionYesNo(no_prefix="no-")
    else:
        options["type"] = (str if type(None) not in get_args(hint) else str | None) if choices else hint
    group.add_argument(f"--{flag}", default=item.default, help=_help(doc), **options)


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
    for item in fields(config):  # type: ignore[arg-type]
        value, hint = namespace[item.name], hints[item.name]
        if is_dataclass(hint) and not isinstance(value, Namespace):
            first = fields(hint)[0]
            example = value if isinstance(value, str) else first.default
            raise ConfigError(
                f"{item.name}: '{value}' must be written with its fields, "
                f"as in {item.name}: {{{first.name}: {example}}}"
            )
        if value is None and type(None) not in get_args(hint):
            raise ConfigError(
                f"{item.name}: null can't be used here; leave it out for its default, {item.default}"
            )
        values[item.name] = build(hint, value) if isinstance(value, Namespace) else value
    return config(**values)


def _explain(message: str, flags: list[str]) -> str:
    """The library's message as one line: the key, the value, what was expected, the cure."""
    message = re.sub(r"\s+", " ", message).strip()
    unknown = re.match(r"unrecognized arguments: ([^\s=]+)|Option '(.+)' is not accepted", message)
    if unknown:
        flag = unknown[1] or f"--{unknown[2]}".replace("_", "-" if "." not in unknown[2] else "_")
        if not flag.startswith("-"):
            return f"'{flag}' stands alone; a value follows its flag, as in --dataset {flag}"
        return f"{flag} is not known{did_you_mean(flag, flags)}; --help lists all flags"
    wrong = re.match(r'Parser key "(.+?)": (.*)(?:Given value|Got value): (.*)', message)
    if wrong:
        key, expected, value = wrong.groups()
        names = re.findall(r"(?:Expected a <class '|Expected an? )(\w+)", expected)
        kinds = list(dict.fromkeys(_KINDS[name] for name in names if name in _KINDS))
        kinds = _LISTS.get(key, kinds)
        flag = key if "." in key else key.replace("_", "-")
        return f"{flag}: '{value}' can't be used; expected {' or '.join(kinds) or 'another kind of value'}"
    missing = re.match(r'Parser key "config": (File does not exist.*)', message)
    if missing:
        return f"config: {missing[1]}; name a YAML file, as --print_config prints one"
    if message.startswith("Unexpected config"):
        return f"config: the file holds no fields; write lines such as 'layers: 32' ({message})"
    return message


_LISTS = {
    "optimizer.betas": ["a list such as [0.9, 0.999]"],
    "models": ["a list of gcn, sage, gcnii and resgcn, such as [gcnii,resgcn]"],
    "hidden": ["a whole number", "for profile a list such as [64,128]"],
}
_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "a word",
    "bool": "true or false",
    "NoneType": "null",
}
