"""PreparedGraph: a graph as the stages read it: renumbered, normalised, cut; one file for all ranks."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from gnnpipe.files.reading import map_tensors, parse_json
from gnnpipe.files.writing import write_tensors
from gnnpipe.graph.chunks import Chunk, CutSpec, cut_graph, cut_into_parts, renumbered, rows_of_parts
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.data import GraphData, Task
from gnnpipe.graph.halo import Ranges, halo_rows, part_range, place_of
from gnnpipe.graph.normalize import Normalization, normalized, transposed
from gnnpipe.graph.partition import halo_counts, node_cost


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
    part_method: str
    """What made the parts: metis, rcm or whole."""
    chunk_method: str
    """What made the chunks: metis, rcm, whole, or mixed."""
    cut_fraction: float
    part_imbalance: float
    chunk_imbalance: float
    part_nodes: list[int]
    """Rows of each part."""
    halo_forward: list[int]
    """Rows of other parts that each part reads going forward."""
    halo_backward: list[int]
    """The same going backward; differs on directed graphs."""
    rival_halo: list[int] | None
    """Sums of both, were the graph cut into as many parts as there are ranks (graph parallelism)."""
    notes: list[str]
    """What was left out or changed when it was loaded."""

    @property
    def alpha(self) -> float:
        """Mean number of other parts that read a node's row."""
        return sum(self.halo_forward) / self.num_nodes


@dataclass(frozen=True)
class PreparedGraph:
    """Everything the ranks read of the graph; rows are in the new numbering."""

    facts: GraphFacts
    ranges: Ranges
    """``[part][chunk]``: rows in the new numbering."""
    node_id: Tensor
    """int64 ``[num_nodes]``: original id of each row."""
    matrix: Csr
    """The normalised adjacency A."""
    matrix_t: Csr
    """Its transpose; the same object where A is symmetric."""
    features: Tensor | Csr
    labels: Tensor
    masks: dict[str, Tensor]
    halo_forward: tuple[Tensor, ...]
    """For each part, rows of other parts that its rows of A read; see `halo_rows`."""
    halo_backward: tuple[Tensor, ...]
    """The same for A^T; the same object where A is symmetric."""
    messages: Tensor
    """int64 ``[2, num_chunks, num_chunks]``: entries of A by the chunks of their row and column, inside parts
    and across parts."""

    def with_one_chunk(self) -> PreparedGraph:
        """The same graph in the same numbering, with each part as its one chunk."""
        ranges = tuple((part_range(self.ranges, part),) for part in range(len(self.ranges)))
        forward = halo_rows(self.matrix, ranges)
        backward = forward if self.matrix_t is self.matrix else halo_rows(self.matrix_t, ranges)
        return replace(self, ranges=ranges, halo_forward=forward, halo_backward=backward)

    @property
    def width(self) -> int:
        """The farthest that a message goes, in chunks."""
        reader, owner = self.messages.sum(dim=0).nonzero(as_tuple=True)
        return int((reader - owner).abs().max()) if len(reader) else 0

    def save(self, path: Path) -> None:
        """Write one safetensors file, which ranks of a host map into memory together."""
        tensors = {"node_id": self.node_id, "labels": self.labels, "messages": self.messages}
        tensors |= {f"mask.{name}": mask for name, mask in self.masks.items()}
        tensors |= _pack("matrix", self.matrix) | _pack("features", self.features)
        if self.matrix_t is not self.matrix:
            tensors |= _pack("matrix_t", self.matrix_t)
            tensors["halo_backward"] = torch.cat(self.halo_backward)
        tensors["halo_forward"] = torch.cat(self.halo_forward)
        stops = [chunk.stop for chunks in self.ranges for chunk in chunks]
        facts = asdict(self.facts) | {"range_stops": stops}
        write_tensors(path, tensors, {"facts": json.dumps(facts)})

    @classmethod
    def load(cls, path: Path) -> PreparedGraph:
        """Map a saved graph into memory; pages are read when they are first used."""
        metadata, tensors = map_tensors(path)
        facts = parse_json(metadata["facts"])
        stops = facts.pop("range_stops")
        matrix = _unpack("matrix", tensors)
        assert isinstance(matrix, Csr)
        matrix_t = _unpack("matrix_t", tensors) if "matrix_t.col" in tensors else matrix
        assert isinstance(matrix_t, Csr)
        halo_forward = tensors["halo_forward"].split(facts["halo_forward"])
        backward = tensors.get("halo_backward")
        ranges = [Chunk(start, stop) for start, stop in zip([0, *stops[:-1]], stops, strict=True)]
        return cls(
            GraphFacts(**facts),
            rows_of_parts(ranges, len(facts["part_nodes"])),
            tensors["node_id"],
            matrix,
            matrix_t,
            _unpack("features", tensors),
            tensors["labels"],
            {name: tensors[f"mask.{name}"] for name in ("train", "val", "test")},
            halo_forward,
            halo_forward if backward is None else backward.split(facts["halo_backward"]),
            tensors["messages"],
        )


def prepare(
    data: GraphData, spec: CutSpec, normalization: Normalization, num_rivals: int = 1
) -> PreparedGraph:
    """Cut into parts and chunks, renumber and normalise.

    Args:
        data: the graph as loaded.
        spec: how to cut; not more parts or chunks than nodes.
        normalization: what the model multiplies with.
        num_rivals: ranks for which to find out what graph parallelism would exchange.
    """
    cut = cut_graph(data.adjacency, spec)
    order = torch.from_numpy(cut.order)
    matrix = renumbered(normalized(data.adjacency, normalization), cut.order, cut.order)
    matrix_t = transposed(matrix)
    halo_forward = halo_rows(matrix, cut.ranges)
    halo_backward = halo_forward if matrix_t is matrix else halo_rows(matrix_t, cut.ranges)
    features = data.features
    facts = GraphFacts(
        data.name,
        data.num_nodes,
        data.num_edges,
        data.num_features,
        features.num_entries if isinstance(features, Csr) else features.numel(),
        data.num_classes,
        data.task,
        cut.part_method,
        cut.chunk_method,
        cut.cut_fraction,
        cut.part_imbalance,
        cut.chunk_imbalance,
        [chunks[-1].stop - chunks[0].start for chunks in cut.ranges],
        [rows.numel() for rows in halo_forward],
        [rows.numel() for rows in halo_backward],
        [sum(map(len, halo_forward)), sum(map(len, halo_backward))]
        if num_rivals == spec.num_parts > 1
        else _rival_halo(data.adjacency, spec, num_rivals),
        list(data.notes),
    )
    return PreparedGraph(
        facts,
        cut.ranges,
        order,
        matrix,
        matrix_t,
        renumbered(features, cut.order, None) if isinstance(features, Csr) else features[order],
        data.labels[order],
        {name: mask[order] for name, mask in data.masks.items()},
        halo_forward,
        halo_backward,
        _messages(matrix, cut.ranges),
    )


def _messages(matrix: Csr, ranges: Ranges) -> Tensor:
    """See `PreparedGraph.messages`."""
    part, chunk = place_of(torch.arange(matrix.num_rows), ranges)
    place = (part * len(ranges[0]) + chunk).to(torch.int32)
    reader = place.repeat_interleave(matrix.rowptr[1:] - matrix.rowptr[:-1])
    owner = place[matrix.col]
    num_chunks = len(ranges[0])
    across = (reader // num_chunks != owner // num_chunks).to(torch.int32)
    cell = (across * num_chunks + reader % num_chunks) * num_chunks + owner % num_chunks
    return torch.bincount(cell, minlength=2 * num_chunks**2).view(2, num_chunks, num_chunks)


def _rival_halo(adjacency: Csr, spec: CutSpec, num_parts: int) -> list[int] | None:
    if not 1 < num_parts <= adjacency.num_rows:
        return None
    work = node_cost(adjacency, spec.row_cost)
    return list(halo_counts(adjacency, cut_into_parts(adjacency, num_parts, spec.part_balance, work)))


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
