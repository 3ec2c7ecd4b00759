"""The module of a run's model in this process, and its folder on disk."""

from __future__ import annotations

import linecache
import sys
import types
from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn

from gnnpipe.checkpoint.names import MODEL
from gnnpipe.errors import ConfigError
from gnnpipe.export.architectures import code_of, moved
from gnnpipe.export.metadata import metadata_of
from gnnpipe.export.own import (
    CODE_FILE,
    OwnModule,
    about_of,
    code_of_file,
    loader_of,
    place_beside,
    with_weights,
)
from gnnpipe.export.source import source_of
from gnnpipe.export.trained import Trained, read_trained
from gnnpipe.export.treatments import buffers_of
from gnnpipe.files.place import check_replaceable
from gnnpipe.files.scratch import place_for, scratch_folder
from gnnpipe.files.typed_json import json_text
from gnnpipe.files.writing import make_folder, replace_folder, write_file, write_tensors
from gnnpipe.records.folder import RunFolder
from gnnpipe.system.failures import advice, reason

SOURCE, ABOUT = "model.py", "model.json"
FILES = {SOURCE, MODEL, ABOUT, CODE_FILE, "__pycache__"}
"""Files of an exported folder; Python makes the last one when it imports model.py."""


def weights_of(trained: Trained) -> dict[str, Tensor]:
    """The exported module's ``state_dict``."""
    weights = moved(code_of(trained.spec), trained.weights)
    return weights | {buffer.name: buffer.value for buffer in buffers_of(trained)}


def to_module(folder: RunFolder, model: str | None = None) -> nn.Module:
    """The model of a run as the exported file defines it, with its best weights, in evaluation mode.

    Args:
        folder: of the run.
        model: as for `read_trained`.

    Raises:
        ConfigError, DataError: as `read_trained`.
    """
    trained = read_trained(folder, model)
    if trained.spec.own is not None:
        return with_weights(OwnModule(about_of(trained)), dict(trained.weights))
    code = code_of(trained.spec)
    text, name = source_of(trained), f"<{SOURCE} of {folder.path}>"
    module = types.ModuleType(f"exported_{trained.spec.model}")
    module.__file__ = name
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)  # for tracebacks
    sys.modules[module.__name__] = module  # where torch_geometric looks for the module of a class
    exec(compile(text, name, "exec"), module.__dict__)
    made: nn.Module = getattr(module, code.class_name)()
    made.load_state_dict(weights_of(trained))
    return made.eval()


def check_may_export(out: Path, *, overwrite: bool) -> None:
    """Raise ConfigError where no exported model may be written: only another one is ever replaced, and only
    if that is asked for."""
    check_replaceable(out, FILES, SOURCE, "an exported model", overwrite=overwrite)


def export(folder: RunFolder, out: Path, *, overwrite: bool = False, model: str | None = None) -> Trained:
    """Write the model of a run into a folder, which appears when it is complete.

    model.py            its class, and `load`
    model.safetensors   its weights
    model.json          what it is and expects, for programs
    layers.py           the code of a model of one's own, whose model.py has `load` alone

    Args:
        folder: of the run, finished or not.
        out: the folder to write.
        overwrite: whether to replace an exported model that stands there.
        model: as for `read_trained`.

    Returns:
        What was exported.

    Raises:
        ConfigError: something else stands at ``out``, or nothing can be written there; as `read_trained`.
        DataError: as `read_trained`.
    """
    check_may_export(out, overwrite=overwrite)
    trained = read_trained(folder, model)
    try:
        with place_for(out) as parent, scratch_folder(parent) as scratch:
            made = scratch / "export"
            make_folder(made)
            _write(trained, made)
            check_may_export(out, overwrite=overwrite)  # somebody may have been faster
            replace_folder(made, out, scratch / "replaced")
    except OSError as error:
        raise ConfigError(f"out: can't write '{out}' ({reason(error, str(out))}); {advice(error)}") from None
    return trained


def _write(trained: Trained, made: Path) -> None:
    """Write the files of an exported model."""
    if trained.spec.own is None:
        write_file(made / SOURCE, source_of(trained))
        write_tensors(made / MODEL, weights_of(trained), {"format": "pt"})
        write_file(made / ABOUT, json_text(metadata_of(trained), indent=2) + "\n")
        return
    about, code = about_of(trained), code_of_file(trained.spec.model)
    if code is not None:
        write_file(made / CODE_FILE, code)
    write_file(made / SOURCE, loader_of(trained))
    write_tensors(made / MODEL, dict(trained.weights), {"format": "pt"})
    about = replace(about, place=place_beside(about.place))
    write_file(made / ABOUT, json_text(about, indent=2) + "\n")
