"""The arguments of a convolution's forward: rows, edges, and the properties of edges that it takes."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from torch import Tensor, nn

from gnnpipe.errors import shown

RowsOf: TypeAlias = Tensor | tuple[Tensor, Tensor]
"""Rows of all nodes; or a pair, of the nodes that edges come from and of those that they lead to."""

HANDED = ("edge_weight", "edge_attr", "edge_type", "size")
"""Arguments that are handed over by name, where a forward takes them."""
GRAPH = "a graph of gnnpipe has one kind of node and one list of edges"
COLUMNS = "carry them as columns of the features, and split those off in a BlockLayer of your own"
WANTED = {
    "pos": f"positions of nodes: {COLUMNS}",
    "normal": f"normals of nodes: {COLUMNS}",
    "x_0": "the rows of the first layer: use --model gcnii, or carry them as more columns through a "
    "BlockLayer of your own",
    "node_type": f"types of nodes: {GRAPH}; put them among the features",
    "hyperedge_index": f"hyperedges: {GRAPH}",
    "pos_edge_index": f"two lists of edges: {GRAPH}; give edges a type, and use RGCNConv",
    "neg_edge_index": f"two lists of edges: {GRAPH}; give edges a type, and use RGCNConv",
    "x_dict": f"several kinds of nodes: {GRAPH}; give edges a type, and use RGCNConv",
    "edge_index_dict": f"several kinds of edges: {GRAPH}; give edges a type, and use RGCNConv",
    "args_dict": f"several kinds of nodes: {GRAPH}; give edges a type, and use RGCNConv",
    "kwargs_dict": f"several kinds of nodes: {GRAPH}; give edges a type, and use RGCNConv",
    "csr": "edges in a form of its own: GATConv is the same layer with edge_index",
    "max_num_neighbors": "edges in a form of its own: use the class without CuGraph in its name",
}
"""Arguments of a forward that gnnpipe has nothing for, with their meaning and the way out."""


class Refused(Exception):  # noqa: N818 - no error yet: `Conv` makes one that names the convolution
    """A convolution can't be run; the text says why, and what helps."""


class HasExtras(Protocol):
    """Properties of edges beside their ends; `BlockEdges` has them."""

    @property
    def weight(self) -> Tensor: ...

    @property
    def attr(self) -> Tensor | None: ...

    @property
    def type(self) -> Tensor | None: ...


@dataclass(frozen=True)
class Call:
    """The arguments that a convolution's forward takes."""

    takes: frozenset[str]
    """Those of `HANDED` that it takes."""
    needs: frozenset[str]
    """Those of them that have no default."""

    @classmethod
    def of(cls, conv: nn.Module) -> Call:
        """Read the signature of ``conv.forward``.

        Raises:
            Refused: it is not ``forward(x, edge_index, ...)``, or needs what is not known here.
        """
        parameters = list(inspect.signature(conv.forward).parameters.values())
        named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        names, needed = [p.name for p in named], [p.name for p in named if p.default is p.empty]
        _check(names, needed, [p.name for p in parameters if p not in named])
        if any(p.kind is p.VAR_KEYWORD for p in parameters):
            names += _taken_inside(conv)
        return cls(frozenset(names) & frozenset(HANDED), frozenset(needed) & frozenset(HANDED))

    def __call__(
        self, conv: nn.Module, x: RowsOf, edge_index: Tensor, extras: HasExtras, size: tuple[int, int]
    ) -> Tensor:
        """Call a convolution.

        Args:
            conv: the convolution.
            x: its rows.
            edge_index: int64 ``[2, num_edges]``.
            extras: of the same edges. An absent one is not handed over; nor is ``edge_attr`` to a convolution
                that was built with ``edge_dim=None``, which would ignore it or fail.
            size: numbers of rows that edges come from and lead to.
        """
        given: dict[str, Tensor | None] = {
            "edge_weight": extras.weight,
            "edge_attr": extras.attr if reads_attr(conv) else None,
            "edge_type": extras.type,
        }
        tensors = {name: value for name, value in given.items() if name in self.takes and value is not None}
        sizes = {"size": size} if "size" in self.takes else {}
        return conv(x, edge_index, **tensors, **sizes)


def _check(names: list[str], needed: list[str], collected: list[str]) -> None:
    """Raise Refused unless a forward is of the kind that `Call` makes.

    Args:
        names: its arguments.
        needed: those without a default.
        collected: names of ``*args`` and ``**kwargs``.
    """
    wanted = [f"{name} ({WANTED[name]})" for name in (*needed, *collected) if name in WANTED]
    if wanted:
        raise Refused(f"its forward needs {wanted[0]}")
    unknown = [name for name in needed[1:] if name not in (*HANDED, "edge_index")]
    if unknown and "edge_index" in names:
        raise Refused(
            f"its forward needs {shown(', '.join(unknown))}; it is given x, edge_index and, where it takes "
            f"them, {', '.join(HANDED[:-1])}"
        )
    if names[1:2] != ["edge_index"]:
        raise Refused(
            f"its forward takes ({shown(', '.join(names))}), not (x, edge_index, ...); if it finds "
            "neighbours itself it needs all rows, which a chunk does not have: make the graph once, and "
            "use EdgeConv; if its edges have another name, call them edge_index"
        )


def _taken_inside(conv: nn.Module) -> list[str]:
    """Arguments about edges that convolutions inside take, which ``**kwargs`` are passed on to."""
    forwards = [inspect.signature(module.forward).parameters for module in conv.children()]
    return [name for taken in forwards if "edge_index" in taken for name in taken if name.startswith("edge_")]


def reads_attr(conv: nn.Module) -> bool:
    """Whether a convolution that takes ``edge_attr`` was built to read it, as far as its attributes tell."""
    return getattr(conv, "edge_dim", 0) is not None and getattr(conv, "in_edge_channels", 0) is not None
