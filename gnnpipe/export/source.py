"""The text of an exported file: one class, the functions that it needs, and how to load and use it.

Only numbers and names that were checked get into the code; texts of the run's folder, which may be somebody
else's, only into docstrings, and letter by letter as `_plain` allows.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable

from gnnpipe.config.features import DEGREE
from gnnpipe.export.architectures import code_of
from gnnpipe.export.code import Code
from gnnpipe.export.trained import Trained
from gnnpipe.export.treatments import Helper, about_features, buffers_of, helpers_of, steps_of
from gnnpipe.graph.data import Task

WIDTH = 88  # ruff's default
MOST_OF_A_NAME = 60
_BLANK = "\0"
_OUTPUTS: dict[Task, str] = {
    "multiclass": "logits ``[num_nodes, out_channels]``; softmax over dim 1 makes probabilities.",
    "binary": "logits ``[num_nodes, out_channels]``; softmax over dim 1 makes probabilities.",
    "multilabel": (
        "logits ``[num_nodes, out_channels]``, one for each label that a node may have; sigmoid makes "
        "probabilities."
    ),
    "regression": (
        "values ``[num_nodes, out_channels]`` in the units of the labels: ``value_mean + value_deviation * "
        "row``, where the rows are what the network learnt."
    ),
}
_COLUMNS: dict[Task, tuple[str, str]] = {
    "multiclass": ("class", "classes"),
    "binary": ("class", "classes"),
    "multilabel": ("label", "labels"),
    "regression": ("value", "values"),
}
"""Names of a column of the output, one and several."""
_ANSWERS: dict[Task, str] = {
    "multiclass": "output.argmax(dim=1)",
    "binary": "output.argmax(dim=1)",
    "multilabel": "output.sigmoid() > 0.5",
    "regression": "output",
}


def source_of(trained: Trained) -> str:
    """The Python file of a run's model."""
    code = code_of(trained.spec)
    helpers = helpers_of(trained)
    head = f"{_head(trained, code)}\n{_imports(trained, code, helpers)}\nHERE = Path(__file__).parent\n"
    functions = [helper.code for helper in helpers]
    helper = [code.helper] if code.helper else []
    parts = [head, *helper, _class(trained, code), *functions, _load(code), _example(trained)]
    return "\n\n".join(parts)


def _head(trained: Trained, code: Code) -> str:
    spec, reached = trained.spec, trained.reached
    sizes = (
        _count(spec.layers, "layer"),
        _count(spec.num_features, "feature"),
        _count(spec.num_classes, *_COLUMNS[trained.task]),
    )
    origin = "gnnpipe trained it; model.safetensors holds its weights."
    if reached is not None:
        origin = (
            f"gnnpipe {_plain(reached.gnnpipe)} trained it on {_plain(reached.dataset)}. The weights in "
            f"model.safetensors are those of epoch {reached.best_epoch + 1}, the best by "
            f"{_plain(reached.metric)} of the validation nodes ({reached.best_val:.6g})."
        )
    needs = (
        "It needs torch and torch_geometric, and `load` needs safetensors to read the weights. model.json "
        "describes the model and its training for programs."
    )
    given = "x, edge_index, edge_weight" if trained.weighted else "x, edge_index"
    use = f"    from model import load\n\n    model = load()\n    output = model({given})\n"
    title = f"{code.title}: {', '.join(sizes)}."
    return f'"""{title}\n\n{_filled(origin)}\n\n{_filled(needs)}\n\n{use}"""\n'


def _imports(trained: Trained, code: Code, helpers: Iterable[Helper]) -> str:
    lines = ["from __future__ import annotations\n"]
    if _names_classes(trained):
        lines.append("import json")
    if code.imports:
        lines.append(code.imports)
    lines.append("from pathlib import Path\n")
    lines += ["import torch", "import torch.nn.functional as F", "from torch import Tensor, nn"]
    lines.append(f"from torch_geometric.nn import {', '.join(code.convolutions)}")
    if code.normalizes:
        lines.append("from torch_geometric.nn.conv.gcn_conv import gcn_norm")
    utils = sorted({*code.utils, *(name for helper in helpers for name in helper.utils)})
    if utils:
        lines.append(f"from torch_geometric.utils import {', '.join(utils)}")
    return "\n".join(lines) + "\n"


def _class(trained: Trained, code: Code) -> str:
    spec = trained.spec
    arguments: dict[str, tuple[float, str]] = {
        "in_channels": (spec.num_features, "columns of the features."),
        "hidden_channels": (spec.hidden, "columns of the hidden rows."),
        "out_channels": (spec.num_classes, f"number of {_COLUMNS[trained.task][1]}."),
        "num_layers": (spec.layers, "number of convolutions."),
        "dropout": (float(trained.config.dropout), "probability that an entry is dropped in training."),
        **code.constants(spec),
    }
    about = "\n\n".join(_filled(part, indent=4) for part in code.about.split("\n\n")).lstrip()
    meanings = _arguments({name: meaning for name, (_, meaning) in arguments.items()}, indent=8)
    parameters = "".join(
        f"        {name}: {type(value).__name__} = {value!r},\n" for name, (value, _) in arguments.items()
    )
    buffers = buffers_of(trained)
    annotations = "".join(f"    {buffer.name}: Tensor\n" for buffer in buffers) + ("\n" if buffers else "")
    made = code.layers + "".join(
        f'self.register_buffer("{buffer.name}", {buffer.default})\n' for buffer in buffers
    )
    return (
        f'class {code.class_name}(nn.Module):\n    """{about}\n\n    Args:\n{meanings}    """\n\n'
        f"{annotations}    def __init__(\n        self,\n{parameters}    ) -> None:\n"
        f"        super().__init__()\n        self.dropout = dropout\n{textwrap.indent(made, ' ' * 8)}\n"
        f"{_forward(trained, code)}"
    )


def _forward(trained: Trained, code: Code) -> str:
    words = _arguments(
        {
            "x": about_features(trained),
            "edge_index": _about_edges(trained),
            "edge_weight": _about_weights(trained, code),
        },
        indent=12,
    )
    lines = [*steps_of(trained, normalizes=code.normalizes), *code.forward.splitlines()]
    if trained.regression:
        lines += [f"x = {code.result}", "return self.value_mean + self.value_deviation * x"]
    else:
        lines.append(f"return {code.result}")
    body = "".join(f"        {line}\n" for line in lines)
    returns = _filled(_OUTPUTS[trained.task], indent=12)
    return (
        "    def forward(\n        self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None\n"
        '    ) -> Tensor:\n        """Predict every node of a graph.\n\n        Args:\n'
        f'{words}\n        Returns:\n{returns}\n        """\n{body}'
    )


def _about_edges(trained: Trained) -> str:
    words = "int64 ``[2, num_edges]``: sources, and targets, which aggregate"
    return f"{words}. The reverse of every edge is added here." if trained.config.undirected else f"{words}."


def _about_weights(trained: Trained, code: Code) -> str:
    least = ", 0 or larger" if code.normalizes else ""
    words = f"float32 ``[num_edges]``{least}; None if every edge weighs 1"
    if trained.weighted is None:
        return f"{words}."
    return f"{words}, as in training." if not trained.weighted else f"{words}. It was trained with weights."


def _load(code: Code) -> str:
    return f'''\
def load(folder: str | Path = HERE) -> {code.class_name}:
    """Build the model with the trained weights, ready to predict.

    Call ``train()`` on it to train it further: dropout then works as before.

    Args:
        folder: holds model.safetensors.
    """
    from safetensors.torch import load_file  # only the weights need safetensors

    model = {code.class_name}()
    model.load_state_dict(load_file(Path(folder) / "model.safetensors"))
    return model.eval()
'''


def _example(trained: Trained) -> str:
    edges = "edges, weights" if trained.weighted else "edges"
    lines = [
        "# A random graph stands in for yours: 10 nodes, 30 edges.",
        "edges = torch.randint(10, (2, 30))",
        *(["weights = torch.rand(30)"] if trained.weighted else []),
        f"features = torch.randn(10, {trained.spec.num_features})",
        "with torch.no_grad():",
        f"    output = load()(features, {edges})",
    ]
    if trained.config.features == DEGREE:
        lines[-3] = f"features = degree_features({edges.replace('edges', 'edges, 10')})"
    if _names_classes(trained):
        lines += [
            'names = json.loads((HERE / "model.json").read_text())["output"]["class_names"]',
            "print([names[number] for number in output.argmax(dim=1)])",
        ]
    else:
        lines.append(f"print({_ANSWERS[trained.task]})")
    return "".join(f"{line}\n" for line in ['if __name__ == "__main__":', *("    " + line for line in lines)])


def _names_classes(trained: Trained) -> bool:
    """Whether the example prints names of classes."""
    return bool(trained.class_names) and trained.task in ("multiclass", "binary")


def _arguments(meanings: dict[str, str], indent: int) -> str:
    """The lines of a docstring's ``Args:``."""
    lines = (_filled(f"{name}: {meaning}", indent, indent + 4) for name, meaning in meanings.items())
    return "".join(f"{line}\n" for line in lines)


def _count(number: int, one: str, several: str = "") -> str:
    """A number and what it counts."""
    return f"{number:,} {one if number == 1 else several or f'{one}s'}"


def _filled(text: str, indent: int = 0, hanging: int | None = None) -> str:
    """A paragraph in lines of `WIDTH`; what stands between double backticks stays on one line.

    Args:
        text: the paragraph.
        indent: blanks in front of each line.
        hanging: blanks in front of all lines but the first, if other than ``indent``.
    """
    whole = re.sub(r"``.*?``", lambda code: code[0].replace(" ", _BLANK), text)
    filled = textwrap.fill(
        whole,
        WIDTH,
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent if hanging is None else hanging),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return filled.replace(_BLANK, " ")


def _plain(text: str) -> str:
    """A text that can end no docstring: letters of any language, digits and a few signs; the others become
    ``?``."""
    return re.sub(r"[^\w .+,:()/-]", "?", text[:MOST_OF_A_NAME])
