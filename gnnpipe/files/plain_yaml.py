"""YAML for settings: plain values that mean what they look like."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from gnnpipe.errors import shown

# Bounds far above all settings together. An alias counts as often as it is used.
MOST_VALUES = 10_000
MOST_CHARACTERS = 10**6

# Plain scalars that are numbers; all others are words.
_NUMBERS = {
    "int": r"[-+]?(?:0|[1-9][0-9_]*)",
    "float": r"[-+]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan",
}


class _Loader(yaml.SafeLoader):
    """Loader with the plain scalars true, false, null and decimal numbers.

    YAML 1.1 would also read 20:23 as 1223, 010 as 8, and no as false.
    """


class _Dumper(yaml.SafeDumper):
    """Dumper that quotes a word which this loader or YAML 1.1's would take for another value, such as 1e5."""


def dump_yaml(values: Mapping[str, object]) -> str:
    """The YAML text that `load_yaml` reads back as ``values``."""
    text: str = yaml.dump(values, Dumper=_Dumper, sort_keys=False)
    return text


def load_yaml(text: str) -> Any:
    """The content of a YAML text.

    Raises:
        ValueError: it is no YAML, names a key twice, or holds more values than settings do (aliases of
            aliases can fill the memory).
    """
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"{len(text):,} characters are no settings; the most is {MOST_CHARACTERS:,}")
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _check_size(node)
        content = loader.construct_document(node)
    except RecursionError:
        raise ValueError("its values are nested too deeply") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ValueError(f"line {line}: {shown(error.problem or 'no YAML')}") from None
    except yaml.YAMLError as error:
        raise ValueError(shown(str(error))) from None
    finally:
        if loader is not None:
            loader.dispose()
    return content


def _check_size(root: yaml.Node) -> None:
    """Count values as if aliases were written out; raises ValueError beyond `MOST_VALUES`.

    An alias is the same node again, so each node is counted once and its size is remembered.
    """
    sizes: dict[int, int] = {}
    unfinished = 0  # size of a node that contains the one under count

    def size_of(node: yaml.Node) -> int:
        key = id(node)
        if sizes.get(key) == unfinished:
            raise ValueError(f"line {node.start_mark.line + 1}: a value contains itself")
        if key not in sizes:
            sizes[key] = unfinished
            sizes[key] = 1 + sum(size_of(child) for child in _children(node))
        if sizes[key] > MOST_VALUES:
            raise ValueError(f"it holds more than {MOST_VALUES:,} values, aliases written out")
        return sizes[key]

    size_of(root)


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        _check_keys(node)
        for key, value in node.value:
            yield key
            yield value
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def _check_keys(node: yaml.MappingNode) -> None:
    """Raise ValueError for a key that occurs twice: PyYAML would silently take its last value."""
    seen = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            if key.value in seen:
                raise ValueError(f"line {key.start_mark.line + 1} gives '{shown(key.value)}' a second time")
            seen.add(key.value)


def _resolve_plainly() -> None:
    """Replace YAML 1.1's patterns for numbers and booleans in the loader, and add ours to the dumper."""
    prefix = "tag:yaml.org,2002:"
    replaced = {prefix + name for name in (*_NUMBERS, "bool", "timestamp")}
    _Loader.yaml_implicit_resolvers = {
        letter: [(tag, pattern) for tag, pattern in resolvers if tag not in replaced]
        for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    for name, pattern in _NUMBERS.items():
        _Loader.add_implicit_resolver(prefix + name, re.compile(rf"^(?:{pattern})$"), list("-+.0123456789"))
    _Loader.add_implicit_resolver(
        prefix + "bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
    )
    # the dumper quotes a word that any pattern matches: those of YAML 1.1, which it has, and ours
    for letter, resolvers in _Loader.yaml_implicit_resolvers.items():
        for tag, pattern in resolvers:
            _Dumper.add_implicit_resolver(tag, pattern, [letter])


_resolve_plainly()
