"""A model of one's own outside of its run: its code beside its weights, and a module that applies both.

The module needs gnnpipe, which its layers are made of, and treats a graph as the run treated its own.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gnnpipe.checkpoint.names import MODEL
from gnnpipe.config.code.place import CodePlace
from gnnpipe.config.run import GraphConfig
from gnnpipe.errors import DataError, shown
from gnnpipe.export.trained import Trained
from gnnpipe.files.reading import map_tensors, read_bytes, read_json
from gnnpipe.files.typed_json import from_object
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.cut.chunks import CutSpec
from gnnpipe.graph.data import Task
from gnnpipe.graph.prepare.prepared import PreparedGraph, prepare
from gnnpipe.graph.scaled_features import FeatureScaling
from gnnpipe.graph.sources.datasets import as_unlabelled
from gnnpipe.nn.blocks.edges import Edges
from gnnpipe.nn.dropout import keep_all
from gnnpipe.nn.features import FeatureRows, SparseRows
from gnnpipe.nn.layer import Layer
from gnnpipe.nn.models import ModelSpec, build_stack, counted
from gnnpipe.nn.own.code import MOST_BYTES

CODE_FILE, ABOUT = "layers.py", "model.json"
FORMAT = 1
LOADER = '''\
"""A model of one's own: {layers} convolutions, {features} features, {classes} outputs.

gnnpipe trained it; {code} holds its layers and model.safetensors its weights. It needs gnnpipe.

    from model import load

    model = load()
    output = model(data)  # a torch_geometric Data, as it was before training

"""

from pathlib import Path

from gnnpipe.export.own import OwnModule, load_folder


def load() -> OwnModule:
    """The model with its weights, in evaluation mode."""
    return load_folder(Path(__file__).parent)


if __name__ == "__main__":
    print(load())
'''


@dataclass(frozen=True)
class OwnAbout:
    """The content of model.json of a model of one's own."""

    format: int
    place: str
    """Place of its function; a file is beside this one."""
    checksum: str
    """Hash of the function's file."""
    arguments: tuple[str, ...]
    """Arguments that the user had chosen, each ``name=value``."""
    num_features: int
    num_classes: int
    edge_dim: int
    num_edge_types: int
    graph: GraphConfig
    """How the run treated its graph."""
    scaling: FeatureScaling
    """The numbers by which features were scaled."""
    task: Task
    class_names: tuple[str, ...] = ()
    value_mean: tuple[float, ...] = ()
    value_deviation: tuple[float, ...] = ()
    """With regression, the module returns mean + deviation x what the network learnt."""


def about_of(trained: Trained) -> OwnAbout:
    """The facts that a module of a run's model is made from; the file is the one of the run."""
    spec, config = trained.spec, trained.config
    treatment = GraphConfig(**{field.name: getattr(config, field.name) for field in fields(GraphConfig)})
    return OwnAbout(
        FORMAT,
        spec.model,
        spec.checksum,
        spec.arguments,
        spec.num_features,
        spec.num_classes,
        spec.edge_dim,
        spec.num_edge_types,
        treatment,
        trained.scaling,
        trained.task,
        trained.class_names,
        trained.standard.mean,
        trained.standard.deviation,
    )


def place_beside(place: str) -> str:
    """The place of a function in an exported folder: its file is copied there, a package's module is not."""
    found = CodePlace.parse(place)
    return str(CodePlace(CODE_FILE, found.function)) if found.is_file else place


def code_of_file(place: str) -> bytes | None:
    """The file to copy; None for the module of a package. Raises OSError."""
    found = CodePlace.parse(place)
    return read_bytes(Path(found.module), MOST_BYTES, link=True) if found.is_file else None


def loader_of(trained: Trained) -> str:
    """The text of model.py."""
    spec = trained.spec
    code = CodePlace.parse(place_beside(spec.model)).module
    return LOADER.format(layers=spec.layers, features=spec.num_features, classes=spec.num_classes, code=code)


class OwnModule(nn.Module):
    """A model of one's own on whole graphs; autograd works, so that it can be trained further.

    Args:
        about: the model.
        folder: folder of its code, if that is a relative path.
    """

    def __init__(self, about: OwnAbout, folder: Path | None = None) -> None:
        super().__init__()
        self.about = about
        place = CodePlace.parse(about.place)
        if place.is_file and folder is not None:
            place = CodePlace(str(folder / place.module), place.function)
        self._place = str(place)
        # as in the run's file of weights: layers.3.conv.lin.weight
        self.layers = nn.ModuleList(item() for item in build_stack(self._spec(sparse=False)))

    def _spec(self, *, sparse: bool) -> ModelSpec:
        about = self.about
        return counted(
            ModelSpec(
                self._place,
                0,
                0,
                about.num_features,
                about.num_classes,
                sparse,
                edge_dim=about.edge_dim,
                num_edge_types=about.num_edge_types,
                arguments=about.arguments,
                checksum=about.checksum,
            )
        )

    def forward(self, data: Any) -> Tensor:
        """Logits, or values in the units of the labels, ``[num_nodes, outputs]``.

        Args:
            data: a `torch_geometric.data.Data` with x, edge_index and what the run's edges had, or a
                `gnnpipe.Graph`; as it was before training. It needs no labels.

        Raises:
            DataError: it can't be used, or has other numbers of features.
        """
        about = self.about
        given = getattr(data, "num_features", about.num_features)
        if about.graph.features is None and given != about.num_features:
            raise DataError(
                f"features: the graph has {given:,}, and the model was trained on "
                f"{about.num_features:,}; give each node the same features, in the same order"
            )
        graph = as_unlabelled(data, about.graph, about.scaling)
        spec = self._spec(sparse=isinstance(graph.features, Csr))
        prepared = prepare(graph, CutSpec(1, 1, 1.0), spec.normalization, reads_edges=spec.reads_edges)
        rows = self._rows(prepared)
        rows = torch.zeros_like(rows).index_copy(0, prepared.node_id, rows)
        if about.task != "regression":
            return rows
        mean, deviation = rows.new_tensor(about.value_mean), rows.new_tensor(about.value_deviation)
        return mean + deviation * rows

    def _rows(self, graph: PreparedGraph) -> Tensor:
        """Output rows in the order of a prepared graph."""
        edges = Edges(graph.matrix, 0, graph.edge_attr, graph.edge_type)
        features = graph.features
        h: FeatureRows = SparseRows.from_csr(features) if isinstance(features, Csr) else features
        for layer in self.layers:
            assert isinstance(layer, Layer)
            x, carry = layer.message(h, keep_all)
            z = None if layer.width is None else layer.aggregate(edges, x, carry)
            h = layer.update(z, carry, None)
        assert isinstance(h, Tensor)  # the last layer's output
        return h


def load_folder(folder: Path) -> OwnModule:
    """The model in an exported folder, with its weights, in evaluation mode. Its code is run.

    Raises:
        DataError: a file is damaged, or they don't belong together.
    """
    try:
        about = from_object(OwnAbout, read_json(folder / ABOUT))
        _, weights = map_tensors(folder / MODEL)
    except (OSError, ValueError) as error:
        raise DataError(f"'{folder}' holds no exported model ({shown(str(error))}); export it anew") from None
    return with_weights(OwnModule(about, folder), weights)


def with_weights(module: OwnModule, weights: dict[str, Tensor]) -> OwnModule:
    """The module with weights of a run, in evaluation mode; raises DataError where they don't fit."""
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise DataError(f"the weights are not those of the layers ({shown(str(error))})") from None
    return module.eval()
