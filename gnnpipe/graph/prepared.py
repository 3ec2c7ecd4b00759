"""PreparedGraph: a graph as the stages read it: renumbered, normalised, cut; one file for all ranks."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from gnnpipe.graph.chunks import Chunk, cut_into_chunks, renumbered
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.data import GraphData, Task
from gnnpipe.graph.normalize import Normalization, normalized, transposed
from gnnpipe.graph.partition import partition, remote_readers


@dataclass(frozen=True)
class GraphFacts:
    """The numbers of a prepared graph that plans, summaries and messages need."""

    name: str
    num_nodes: int
    num_edges: int
    """Directed edges as loaded."""
    num_features: int
    feature_entries: int
    """Stored entries of the feature matrix."""
    num_classes: int
    task: Task
    method: str
    """What made the chunks: metis, rcm or whole."""
    cut_fraction: float
    fresh_fraction: float
    imbalance: float
    graph_parallel_alpha: float | None
    """Mean number of other parts that need a node's row, were the graph cut into one part a device."""


@dataclass(frozen=True)
class PreparedGraph:
    """Everything the ranks read of the graph; rows are in the new numbering."""

    facts: GraphFacts
    chunks: tuple[Chunk, ...]
    node_id: Tensor
    """int64 ``[num_nodes]``: original id of each row."""
    matrix: Csr
    """The normalised adjacency A."""
    matrix_t: Csr
    """Its transpose; the same object where A is symmetric."""
    features: Tensor | Csr
    labels: Tensor
    masks: dict[str, Tensor]

    def save(self, path: Path) -> None:
        """Write one safetensors file, which ranks of a host map into memory together."""
        tensors = {"node_id": self.node_id, "labels": self.labels}
        tensors |= {f"mask.{name}": mask for name, mask in self.masks.items()}
        tensors |= _pack("matrix", self.matrix) | _pack("features", self.features)
        if self.matrix_t is not self.matrix:
            tensors |= _pack("matrix_t", self.matrix_t)
        facts = asdict(self.facts) | {"chunk_stops": [chunk.stop for chunk in self.chunks]}
        save_file(tensors, path, metadata={"facts": json.dumps(facts)})

    @classmethod
    def load(cls, path: Path) -> PreparedGraph:
        """Map a saved graph into memory; pages are read when they are first used."""
        with safe_open(path, framework="pt") as file:
            facts = json.loads(file.metadata()["facts"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        stops = facts.pop("chunk_stops")
        matrix = _unpack("matrix", tensors)
        assert isinstance(matrix, Csr)
        matrix_t = _unpack("matrix_t", tensors) if "matrix_t.col" in tensors else matrix
        assert isinstance(matrix_t, Csr)
        return cls(
            GraphFacts(**facts),
            tuple(Chunk(start, stop) for start, stop in zip([0, *stops], stops, strict=False)),
            tensors["node_id"],
            matrix,
            matrix_t,
            _unpack("features", tensors),
            tensors["labels"],
            {name: tensors[f"mask.{name}"] for name in ("train", "val", "test")},
        )


def prepare(
    data: GraphData,
    num_chunks: int,
    normalization: Normalization,
    row_cost: float,
    compare_with_parts: int = 1,
) -> PreparedGraph:
    """Cut into chunks, renumber and normalise.

    Args:
        data: the graph as loaded.
        num_chunks: chunks to cut, 1 to the number of nodes.
        normalization: what the model multiplies with.
        row_cost: see `partition`.
        compare_with_parts: parts for which to find out what graph parallelism would exchange.
    """
    chunking = cut_into_chunks(data.adjacency, partition(data.adjacency, num_chunks, row_cost), row_cost)
    order = torch.from_numpy(chunking.order)
    matrix = renumbered(normalized(data.adjacency, normalization), chunking.order, chunking.order)
    features = data.features
    alpha = None
    if compare_with_parts > 1 and data.num_nodes >= compare_with_parts:
        alpha = remote_readers(data.adjacency, partition(data.adjacency, compare_with_parts, row_cost))
    facts = GraphFacts(
        data.name,
        data.num_nodes,
        data.num_edges,
        data.num_features,
        features.num_entries if isinstance(features, Csr) else features.numel(),
        data.num_classes,
        data.task,
        chunking.method,
        chunking.cut_fraction,
        chunking.fresh_fraction,
        chunking.imbalance,
        alpha,
    )
    return PreparedGraph(
        facts,
        chunking.chunks,
        order,
        matrix,
        transposed(matrix),
        renumbered(features, chunking.order, None) if isinstance(features, Csr) else features[order],
        data.labels[order],
        {name: mask[order] for name, mask in data.masks.items()},
    )


def _pack(name: str, matrix: Tensor | Csr) -> dict[str, Tensor]:
    if isinstance(matrix, Tensor):
        return {name: matrix}
    num_cols = torch.tensor(matrix.num_cols)
    parts = {"rowptr": matrix.rowptr, "col": matrix.col, "value": matrix.value, "num_cols": num_cols}
    return {f"{name}.{part}": tensor for part, tensor in parts.items()}


def _unpack(name: str, tensors: dict[str, Tensor]) -> Tensor | Csr:
    if name in tensors:
        return tensors[name]
    rowptr, col, value, num_cols = (
        tensors[f"{name}.{part}"] for part in ("rowptr", "col", "value", "num_cols")
    )
    return Csr(rowptr, col, value, int(num_cols))
