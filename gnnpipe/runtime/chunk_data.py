"""What a stage holds of each chunk of the graph."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gnnpipe.graph.chunks import Chunk
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.prepared import PreparedGraph
from gnnpipe.model.features import FeatureRows, SparseRows
from gnnpipe.runtime.place import Place


@dataclass(frozen=True)
class ChunkData:
    """What a stage holds of one chunk, cut once."""

    chunk: Chunk
    node_id: Tensor
    """Original ids, which key the dropout masks."""
    pull: Csr
    """Rows of A."""
    pull_back: Csr
    """Rows of A^T."""
    features: FeatureRows | None
    """On the first stage."""
    labels: Tensor | None
    masks: dict[str, Tensor]
    """On the last stage."""


def cut(graph: PreparedGraph, place: Place, device: torch.device) -> list[ChunkData]:
    """Cut what this stage reads of the graph into chunks, on its device."""
    matrix = graph.matrix.to(device)
    matrix_t = matrix if graph.matrix_t is graph.matrix else graph.matrix_t.to(device)
    result = []
    for chunk in graph.chunks:
        rows = slice(chunk.start, chunk.stop)
        pull = matrix.rows(chunk.start, chunk.stop)
        result.append(
            ChunkData(
                chunk,
                graph.node_id[rows].to(device),
                pull,
                pull if matrix_t is matrix else matrix_t.rows(chunk.start, chunk.stop),
                _feature_rows(graph.features, chunk, device) if place.is_first else None,
                graph.labels[rows].to(device) if place.is_last else None,
                {name: mask[rows].to(device) for name, mask in graph.masks.items()} if place.is_last else {},
            )
        )
    return result


def _feature_rows(features: Tensor | Csr, chunk: Chunk, device: torch.device) -> FeatureRows:
    if isinstance(features, Csr):
        return SparseRows.from_csr(features.rows(chunk.start, chunk.stop).to(device))
    return features[chunk.start : chunk.stop].to(device)
