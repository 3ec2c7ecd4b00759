"""PreparedGraph: a graph that is renumbered, normalised and cut, in one file for all ranks of a host.

Graph --- cut_graph ---> order, ranges --- renumber, normalise ---> A, A^T, features, labels, masks
                                            --- halo_rows -----------> halo of each part, either pass
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gnnpipe.files.reading import map_tensors, parse_json
from gnnpipe.files.typed_json import from_object
from gnnpipe.files.writing import new_tensors, write_tensors
from gnnpipe.graph.blocks import row_blocks
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.cut.chunks import Chunk, CutSpec, cut_graph, cut_into_parts, rows_of_parts
from gnnpipe.graph.cut.halo import Ranges, halo_rows, halo_rows_back, part_and_chunk_of, part_range
from gnnpipe.graph.cut.partition import halo_counts, node_cost
from gnnpipe.graph.data import Graph, Task
from gnnpipe.graph.edge_data import EdgeData
from gnnpipe.graph.prepare.edge_rows import EdgeRows, is_symmetric_in
from gnnpipe.graph.prepare.fingerprint import task_fingerprint
from gnnpipe.graph.prepare.moved import MovedDense, MovedSparse, moved, pack, turned, unpack
from gnnpipe.graph.prepare.normalize import Normalization, Normalizer
from gnnpipe.graph.prepare.standard import standardized
from gnnpipe.graph.scaled_features import UNSCALED, FeatureScaling
from gnnpipe.graph.transpose import is_symmetric

EDGE_TENSORS = ("edge_attr", "edge_type", "entry_t")
"""Tensors of a file where edges have features or types, as fields of `PreparedGraph`."""


@dataclass(frozen=True)
class GraphFacts:
    """The numbers of a prepared graph that plans, summaries and printed lines need."""

    name: str
    """Name of the graph in printed lines and folders."""
    num_nodes: int
    num_edges: int
    """Directed edges as loaded; parallel edges count once, unless they have weights, features or types."""
    num_features: int
    feature_entries: int
    """Stored entries of the feature matrix: all where it is dense, the non-zeros where it is sparse."""
    num_classes: int
    task: Task
    """Kind of prediction."""
    part_method: str
    """Method that made the parts: metis, rcm or whole."""
    chunk_method: str
    """Method that made the chunks: metis, rcm, whole, mixed, or one of `LocalCut`."""
    cut_fraction: float
    """Share of the edges that join different chunks."""
    part_imbalance: float
    """Work of the most expensive part over the mean of all parts."""
    chunk_imbalance: float
    """Work of the most expensive range over the mean of all ranges."""
    part_nodes: list[int]
    """Number of rows of each part."""
    halo_forward: list[int]
    """Number of halo rows of each part in the forward pass."""
    halo_backward: list[int]
    """The same in the backward pass; differs on directed graphs."""
    rival_halo: list[int] | None
    """``[forward, backward]`` halo rows of all parts together if graph parallelism had the same ranks, one
    part each; None where that cut does not exist."""
    notes: list[str]
    """Lines for the user: each names something that was left out or changed while loading."""
    value_mean: tuple[float, ...] = ()
    """With regression, mean of each value over the training nodes; a model predicts (value - mean) /
    deviation."""
    value_deviation: tuple[float, ...] = ()
    """With regression, standard deviation of each value over the training nodes."""
    class_names: tuple[str, ...] = ()
    """Name of each class; empty where classes are just numbers."""
    content: str = ""
    """Hash of the edges, labels and masks as they were given (`task_fingerprint`); empty in files of older
    versions."""
    scaling: FeatureScaling = UNSCALED
    """The numbers by which the features were scaled; none in files of older versions, whether or not features
    were scaled."""
    weighted: bool | None = None
    """Whether edges have weights; None in files of older versions."""
    edge_dim: int = 0
    """Columns of the edges' features as loaded, whether or not the model reads them; 0 for none."""
    num_edge_types: int = 0
    """Number of types of edges as loaded; 0 for none. A self loop that was added has this number as its
    type."""
    edge_type_names: tuple[str, ...] = ()
    """Name of each type; empty where types are just numbers."""

    @property
    def alpha(self) -> float:
        """Mean number of other parts that read a node's row."""
        return sum(self.halo_forward) / self.num_nodes


@dataclass(frozen=True)
class PreparedGraph:
    """Everything that ranks read of the graph; all rows are in the new numbering."""

    facts: GraphFacts
    """Its numbers."""
    ranges: Ranges
    """``[part][chunk]``: ranges of rows."""
    node_id: Tensor
    """int64 ``[num_nodes]``: original id of each row."""
    matrix: Csr
    """The normalised adjacency A."""
    matrix_t: Csr
    """The transpose of A; the same object where A is symmetric."""
    features: Tensor | Csr
    """float32 ``[num_nodes, num_features]``, dense or sparse."""
    labels: Tensor
    """As in `Graph`; values to be predicted are standardised, ``[num_nodes, num_classes]``."""
    masks: dict[str, Tensor]
    """bool ``[num_nodes]`` for train, val and test."""
    halo_forward: tuple[Tensor, ...]
    """For each part, the ids of its halo rows in the forward pass, in the order of `halo_rows`."""
    halo_backward: tuple[Tensor, ...]
    """The same in the backward pass; the same object where A is symmetric."""
    chunk_edges: Tensor
    """int64 ``[2, num_chunks, num_chunks]``: number of entries of A by the chunk of their row (reader) and
    the chunk of their column (owner); first inside parts, then across parts."""
    edge_attr: Tensor | None = None
    """float32 ``[num_entries, edge_dim]``: features of the entries of A, see `EdgeRows`; None if edges have
    none, or the model does not read them."""
    edge_type: Tensor | None = None
    """int64 ``[num_entries]``: types of the entries of A; None as for the features."""
    entry_t: Tensor | None = None
    """int64 ``[num_entries]``: the entry of A that each entry of its transpose is. None where A stands for
    its transpose, features and types included; and where there are neither."""

    def with_one_chunk(self) -> PreparedGraph:
        """The same graph in the same numbering, with one chunk a part."""
        ranges = tuple((part_range(self.ranges, part),) for part in range(len(self.ranges)))
        forward = halo_rows(self.matrix, ranges)
        backward = forward if self.matrix_t is self.matrix else halo_rows(self.matrix_t, ranges)
        return replace(self, ranges=ranges, halo_forward=forward, halo_backward=backward)

    def forward_alone(self) -> PreparedGraph:
        """The same graph for work that never goes backward: A stands for its transpose, which is not read."""
        return replace(self, matrix_t=self.matrix, halo_backward=self.halo_forward, entry_t=None)

    @property
    def width(self) -> int:
        """Largest distance, in chunks, between the ends of an edge."""
        reader, owner = self.chunk_edges.sum(dim=0).nonzero(as_tuple=True)
        return int((reader - owner).abs().max()) if len(reader) else 0

    def save(self, path: Path) -> None:
        """Write one safetensors file, which all ranks of a host map into memory: they share its pages.

        Raises:
            OSError: it can't be written.
        """
        tensors = {"node_id": self.node_id, "labels": self.labels, "chunk_edges": self.chunk_edges}
        tensors |= {f"mask.{name}": mask for name, mask in self.masks.items()}
        tensors |= pack("matrix", self.matrix) | pack("features", self.features)
        if self.matrix_t is not self.matrix:  # a symmetric matrix is stored once
            tensors |= pack("matrix_t", self.matrix_t)
            tensors["halo_backward"] = torch.cat(self.halo_backward)
        tensors["halo_forward"] = torch.cat(self.halo_forward)
        of_edges = zip(EDGE_TENSORS, (self.edge_attr, self.edge_type, self.entry_t), strict=True)
        tensors |= {name: tensor for name, tensor in of_edges if tensor is not None}
        write_tensors(path, tensors, _header(self.facts, self.ranges))

    @classmethod
    def load(cls, path: Path) -> PreparedGraph:
        """Map a saved graph into memory; pages are read when they are first used."""
        metadata, tensors = map_tensors(path)
        facts = parse_json(metadata["facts"])
        # ranges cover all rows without gaps, so their stops suffice
        stops = facts.pop("range_stops")
        lists = ("value_mean", "value_deviation", "class_names", "edge_type_names")
        facts |= {key: tuple(facts.get(key, ())) for key in lists}
        facts["scaling"] = from_object(FeatureScaling, facts["scaling"])
        matrix = unpack("matrix", tensors)
        assert isinstance(matrix, Csr)
        matrix_t = unpack("matrix_t", tensors) if "matrix_t.col" in tensors else matrix
        assert isinstance(matrix_t, Csr)
        # the halo of all parts is one tensor in the file; facts hold each part's number of rows
        halo_forward = tensors["halo_forward"].split(facts["halo_forward"])
        backward = tensors.get("halo_backward")
        ranges = [Chunk(start, stop) for start, stop in zip([0, *stops[:-1]], stops, strict=True)]
        return cls(
            GraphFacts(**facts),
            rows_of_parts(ranges, len(facts["part_nodes"])),
            tensors["node_id"],
            matrix,
            matrix_t,
            unpack("features", tensors),
            tensors["labels"],
            {name: tensors[f"mask.{name}"] for name in ("train", "val", "test")},
            halo_forward,
            halo_forward if backward is None else backward.split(facts["halo_backward"]),
            tensors["chunk_edges"],
            *(tensors.get(name) for name in EDGE_TENSORS),
        )


@dataclass(frozen=True)
class _Draft:
    """A prepared graph whose features, labels and masks have not been moved to their new rows yet."""

    data: Graph
    facts: GraphFacts
    ranges: Ranges
    order: Tensor
    """int64 ``[num_nodes]``: original id of each new row."""
    matrix: Csr
    symmetric: bool
    """Whether the matrix is its own transpose."""
    halo_forward: tuple[Tensor, ...]
    halo_backward: tuple[Tensor, ...]
    chunk_edges: Tensor
    edges: EdgeRows | None
    """Features and types of the matrix's entries; None without any."""

    @property
    def transpose(self) -> MovedSparse:
        """The transpose of the matrix, which may be the matrix itself."""
        return turned(self.matrix, None if self.edges is None else "entry_t")


def prepare(
    data: Graph,
    spec: CutSpec,
    normalization: Normalization,
    num_rivals: int = 1,
    *,
    reads_edges: bool = True,
) -> PreparedGraph:
    """Cut into parts and chunks, renumber and normalise, in memory.

    Args:
        data: the graph as loaded.
        spec: the wanted cut; not more parts or chunks than nodes.
        normalization: normalisation of the adjacency, which the model decides.
        num_rivals: number of ranks for which to count the halo of graph parallelism, for comparison.
        reads_edges: whether the model reads features or types of edges, if there are any; parallel edges are
            then entries of their own.

    Raises:
        DataError: a weight is negative, as in `normalized`.
    """
    draft = _draft(data, spec, normalization, num_rivals, reads_edges=reads_edges)
    data = draft.data  # values to be predicted are standardised there
    matrix_t, entry_t = (draft.matrix, None) if draft.symmetric else draft.transpose.whole_with_entries()
    of_edges = EdgeData() if draft.edges is None else draft.edges.whole()
    return PreparedGraph(
        draft.facts,
        draft.ranges,
        draft.order,
        draft.matrix,
        matrix_t,
        moved(data.features, draft.order).whole(),
        MovedDense(data.labels, draft.order, data.labels.dtype).whole(),
        {name: mask[draft.order] for name, mask in data.masks.items()},
        draft.halo_forward,
        draft.halo_backward,
        draft.chunk_edges,
        of_edges.attr,
        of_edges.type,
        entry_t,
    )


def prepare_file(
    data: Graph,
    spec: CutSpec,
    normalization: Normalization,
    path: Path,
    num_rivals: int = 1,
    *,
    reads_edges: bool = True,
) -> PreparedGraph:
    """`prepare` into a file, which the result is mapped from.

    Memory holds the normalised adjacency once and blocks of everything else, also where the graph itself is
    mapped from disk.

    Raises:
        DataError: a weight is negative, as in `normalized`.
        OSError: the file can't be written.
    """
    _write(_draft(data, spec, normalization, num_rivals, reads_edges=reads_edges), path)
    return PreparedGraph.load(path)


def _draft(
    data: Graph, spec: CutSpec, normalization: Normalization, num_rivals: int, *, reads_edges: bool
) -> _Draft:
    content = task_fingerprint(data)
    data, standard = standardized(data)
    # counted first: afterwards memory holds the matrix
    rival = _rival_halo(data.adjacency, spec, num_rivals)
    cut = cut_graph(data.adjacency, spec)
    apart = reads_edges and data.edge_data.exists
    normalizer = Normalizer.of(
        data.adjacency, normalization, weighted=data.weighted, apart=apart, ids=data.ids
    )
    matrix = normalizer.matrix(cut.order)
    edges = EdgeRows(data.edge_data, normalizer, cut.order, data.num_edge_types) if apart else None
    symmetric = is_symmetric(matrix) and (not apart or is_symmetric_in(data.adjacency, data.edge_data))
    halo_forward = halo_rows(matrix, cut.ranges)
    halo_backward = halo_forward if symmetric else halo_rows_back(matrix, cut.ranges)
    sizes = [[rows.numel() for rows in halo] for halo in (halo_forward, halo_backward)]
    if num_rivals == spec.num_parts > 1:  # with one stage, the cut at hand is graph parallelism's own
        rival = [sum(sizes[0]), sum(sizes[1])]
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
        sizes[0],
        sizes[1],
        rival,
        [*data.notes, *_unread(data, reads_edges=reads_edges)],
        standard.mean,
        standard.deviation,
        data.class_names,
        content,
        data.scaling,
        data.weighted,
        data.edge_dim,
        data.num_edge_types,
        data.edge_type_names,
    )
    order, chunk_edges = torch.from_numpy(cut.order), _count_chunk_edges(matrix, cut.ranges)
    halos = (halo_forward, halo_backward)
    return _Draft(data, facts, cut.ranges, order, matrix, symmetric, *halos, chunk_edges, edges)


def _unread(data: Graph, *, reads_edges: bool) -> list[str]:
    """A note where edges have features or types that the model does not read."""
    unread = data.edge_data.exists and not reads_edges
    return [f"edges: this model does not read their {data.edge_data.words()}"] if unread else []


def _write(draft: _Draft, path: Path) -> None:
    """Write the file that `PreparedGraph.save` would write, without ever holding all of it."""
    data, order, matrix = draft.data, draft.order, draft.matrix
    whole = {"node_id": order, "chunk_edges": draft.chunk_edges}
    whole |= {f"mask.{name}": mask[order] for name, mask in data.masks.items()}
    whole |= pack("matrix", matrix) | {"halo_forward": torch.cat(draft.halo_forward)}
    labels, features = MovedDense(data.labels, order, data.labels.dtype), moved(data.features, order)
    later = labels.shapes("labels") | features.shapes("features")
    later |= {} if draft.edges is None else draft.edges.shapes()
    backward = None
    if not draft.symmetric:
        whole["halo_backward"] = torch.cat(draft.halo_backward)
        backward = draft.transpose
        later |= backward.shapes("matrix_t")
    with new_tensors(path, whole | later, _header(draft.facts, draft.ranges)) as file:
        for name, tensor in whole.items():
            file.append(name, tensor)
        labels.write(file, "labels")
        features.write(file, "features")
        if draft.edges:
            draft.edges.write(file)
        if backward:
            backward.write(file, "matrix_t")


def _header(facts: GraphFacts, ranges: Ranges) -> dict[str, str]:
    """Facts and the stops of the ranges, as JSON in the header of the file."""
    stops = [chunk.stop for chunks in ranges for chunk in chunks]
    return {"facts": json.dumps(asdict(facts) | {"range_stops": stops})}


def _count_chunk_edges(matrix: Csr, ranges: Ranges) -> Tensor:
    """``PreparedGraph.chunk_edges`` of a matrix: int64 ``[2, num_chunks, num_chunks]``."""
    num_chunks = len(ranges[0])
    part, chunk = part_and_chunk_of(torch.arange(matrix.num_rows), ranges)
    # part and chunk in one 32-bit number: there is one for each node and both ends of a block's edges
    range_index = (part * num_chunks + chunk).to(torch.int32).numpy()
    count = np.zeros(2 * num_chunks**2, dtype=np.int64)
    for start, _, rows in row_blocks(matrix):
        reader, owner = range_index[rows.row + start], range_index[rows.col]
        across = (reader // num_chunks != owner // num_chunks).astype(np.int32)
        # position of [across, reader's chunk, owner's chunk] in the flattened result
        flat = (across * num_chunks + reader % num_chunks) * num_chunks + owner % num_chunks
        count += np.bincount(flat, minlength=len(count))
    return torch.from_numpy(count).view(2, num_chunks, num_chunks)


def _rival_halo(adjacency: Csr, spec: CutSpec, num_parts: int) -> list[int] | None:
    """``GraphFacts.rival_halo`` for a cut into ``num_parts`` that is not the one at hand."""
    if num_parts == spec.num_parts or not 1 < num_parts <= adjacency.num_rows:
        return None
    work = node_cost(adjacency, spec.row_cost)
    return list(halo_counts(adjacency, cut_into_parts(adjacency, num_parts, spec.part_balance, work)))
