"""Values to be predicted, in the units that a model learns them in."""

from __future__ import annotations

from dataclasses import dataclass, replace

from gnnpipe.graph.data import Graph


@dataclass(frozen=True)
class Standard:
    """Mean and deviation of each value over the training nodes.

    A deep network hardly learns targets of 1000: it predicts ``(value - mean) / deviation``.
    """

    mean: tuple[float, ...] = ()
    """Empty where labels are classes."""
    deviation: tuple[float, ...] = ()
    """Standard deviation; 1 where all training nodes have the same value."""


def standardized(data: Graph) -> tuple[Graph, Standard]:
    """The same graph with its values as a model learns them, float32 ``[num_nodes, num_values]``.

    Classes stay as they are. Mean and deviation are those of the whole graph, whatever its cut.
    """
    if not data.regression:
        return data, Standard()
    labels = data.labels.unsqueeze(1) if data.labels.dim() == 1 else data.labels
    values = labels[data.train_mask].double()
    # a deviation of equal numbers may be off 0 by rounding
    alike = (values == values[0]).all(dim=0)
    mean, deviation = values.mean(dim=0), values.std(dim=0, correction=0).masked_fill(alike, 1.0)
    learnt = ((labels.double() - mean) / deviation).float()
    return replace(data, labels=learnt), Standard(tuple(mean.tolist()), tuple(deviation.tolist()))
