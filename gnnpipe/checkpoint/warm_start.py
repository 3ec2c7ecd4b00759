"""Weights of another run to begin with: those whose names and shapes agree."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from gnnpipe.checkpoint.names import weights_file
from gnnpipe.engine.batch_norms import start_at_running
from gnnpipe.engine.stage import Stage
from gnnpipe.errors import ConfigError, shown
from gnnpipe.files.reading import StoredTensors, map_tensors, read_tensors
from gnnpipe.files.writing import write_tensors
from gnnpipe.graph.prepare.fingerprint import array_fingerprint
from gnnpipe.nn.models import ModelSpec, build_stack
from gnnpipe.system.failures import reason
from gnnpipe.system.words import short_number

# A file that somebody else has made may name as many tensors as it likes.
MOST_NAMED = 8

Shape = tuple[int, ...]


@dataclass(frozen=True)
class WarmStart:
    """Weights that a run begins with."""

    path: Path
    """A copy of those that fit: the run that they come from may write new ones meanwhile."""
    notes: tuple[str, ...]
    """Lines for the user: which were taken, and which were not."""
    fingerprint: str
    """Hash of the weights: it tells whether all hosts have the same."""


def warm_start(source: str, spec: ModelSpec, copy: Path) -> WarmStart:
    """Take the weights that fit a model from a run, or from a file of weights.

    Args:
        source: folder of the run, whose best weights are taken, or a safetensors file.
        spec: the model that is to be trained.
        copy: file to write them to.

    Raises:
        ConfigError: the file can't be read, none of its weights fits, or one of those that fit is not finite.
    """
    path, shapes = weights_file(source), weight_shapes(spec)
    try:
        stored = read_tensors(path, shapes, link=path == Path(source))
    except (OSError, ValueError) as error:
        why = reason(error, str(path)) if isinstance(error, OSError) else str(error)
        raise ConfigError(
            f"warm-start: '{shown(str(path))}' can't be read ({why}); name the folder of a run that has "
            "weights, or a safetensors file"
        ) from None
    taken = stored.tensors
    if not taken:
        raise ConfigError(
            f"warm-start: none of the {len(stored.shapes)} weights in '{shown(str(path))}' fits this model "
            f"({'; '.join(_left_out(stored, shapes))}); give that run's --model and --hidden, or leave it out"
        )
    for name, tensor in taken.items():
        if not torch.isfinite(tensor).all():
            raise ConfigError(
                f"warm-start: {name} in '{shown(str(path))}' holds numbers that are not finite; name another "
                "run"
            )
    write_tensors(copy, taken, {})
    notes = [
        f"warm start from '{shown(source)}'{_about(stored.metadata)}",
        f"taken, {len(taken)} of {len(shapes)} weights: {grouped(taken)}",
        *_left_out(stored, shapes),
    ]
    whole = "".join(f"{name} {array_fingerprint(tensor)}\n" for name, tensor in taken.items())
    return WarmStart(copy, tuple(notes), whole)


def load(stage: Stage, path: Path) -> None:
    """Set those weights of a stage that a file holds: the copy of a `WarmStart`."""
    _, tensors = map_tensors(path)
    for layer in stage.held_layers:
        own = {name: tensors.get(f"{layer.spec.name}.{name}") for name in layer.module.state_dict()}
        layer.module.load_state_dict({name: value for name, value in own.items() if value is not None}, False)
    start_at_running(stage.modules)


def weight_shapes(spec: ModelSpec) -> dict[str, Shape]:
    """Shapes of a model's weights by their names in model.safetensors."""
    with torch.device("meta"):
        return {
            f"{layer.name}.{name}": tuple(weight.shape)
            for layer in build_stack(spec)
            for name, weight in layer().state_dict().items()
        }


def grouped(names: Iterable[str]) -> str:
    """Names of weights as a short text: ``input.weight, layers.0-31.weight``."""
    numbers: dict[str, list[int]] = {}
    for name in names:
        found = re.fullmatch(r"layers\.(\d{1,9})\.(.+)", name)
        pattern = f"layers.*.{found[2]}" if found else name
        numbers.setdefault(pattern, []).extend([int(found[1])] if found else [])
    texts = [
        shown(pattern.replace("*", span, 1))
        for pattern, members in numbers.items()
        for span in _spans(set(members)) or ["*"]
    ]
    more = [f"and {len(texts) - MOST_NAMED} more"] if len(texts) > MOST_NAMED else []
    return ", ".join([*texts[:MOST_NAMED], *more])


def _spans(numbers: set[int]) -> list[str]:
    """Whole numbers as ranges: ``["0-3", "7"]``."""
    starts = sorted(n for n in numbers if n - 1 not in numbers)
    stops = sorted(n for n in numbers if n + 1 not in numbers)
    return [f"{a}" if a == b else f"{a}-{b}" for a, b in zip(starts, stops, strict=True)]


def _left_out(stored: StoredTensors, shapes: Mapping[str, Shape]) -> list[str]:
    """Lines on the weights that were not taken, and on those that begin at random."""
    both = [name for name in shapes if name in stored.shapes and name not in stored.tensors]
    new = [name for name in shapes if name not in stored.shapes]
    others = [name for name in stored.shapes if name not in shapes]
    lines = []
    if both:
        name = both[0]
        there, here = _times(stored.shapes[name]), _times(shapes[name])
        kind = f" of {stored.kinds[name]}" if there == here else ""
        lines.append(f"not taken: {grouped(both)} ({name} is {there}{kind} there, and {here} here)")
    if new:
        lines.append(f"not there: {grouped(new)}")
    if others:
        lines.append(f"not of this model: {grouped(others)}")
    return lines


def _times(shape: Shape) -> str:
    return " x ".join(map(str, shape))


def _about(metadata: Mapping[str, str]) -> str:
    """Where a file's weights are from, by its metadata; empty where they say nothing."""
    keys = ("model", "dataset", "metric", "best_val")
    known = {key: shown(metadata[key]) for key in keys if key in metadata}
    if len(known) < len(keys):
        return ""
    score = f"{known['metric']} {short_number(known['best_val'])}"
    return f" ({known['model']} on {known['dataset']}, validation {score})"
