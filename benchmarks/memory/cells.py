"""The grid of settings, and the cells that cover every pair of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gnnpipe.config.checks import check_config
from gnnpipe.config.resolved import Resolved
from gnnpipe.config.run import Model, RunConfig, StalenessConfig, TableFormat, WireFormat

LOOKAHEAD = 2


@dataclass(frozen=True)
class Cell:
    """One combination of settings."""

    model: Model = "gcnii"
    stages: int = 1
    chunks: int = 1
    classes: int = 7
    """Number of classes; 107 stands for labels, of which a node has several."""
    sparse: bool = False
    directed: bool = False
    wire: WireFormat = "fp32"
    tables: TableFormat = "fp32"
    recompute: bool = False
    lookahead: bool = False
    parts: int = 1

    @property
    def name(self) -> str:
        """Shape and classes, and a word for every setting that is not the default."""
        words = [f"{self.model} {self.stages}x{self.parts}x{self.chunks}, {self.classes} classes"]
        words += [name for name in ("sparse", "directed", "recompute", "lookahead") if getattr(self, name)]
        words += [f"wire {self.wire}"] if self.wire != "fp32" else []
        words += [f"tables {self.tables}"] if self.tables != "fp32" else []
        return ", ".join(words)

    def config(self, size: Size) -> Resolved:
        """Configuration of the cell's run."""
        return check_config(
            RunConfig(
                model=self.model,
                layers=size.layers,
                hidden=size.hidden,
                stages=self.stages,
                parts=self.parts,
                chunks=self.chunks,
                wire=self.wire,
                tables=self.tables,
                recompute=self.recompute,
                epochs=size.epochs,
                eval_every=1,
                checkpoint_every=0,
                threads=1,
                device="cpu",
                staleness=StalenessConfig(lookahead=LOOKAHEAD) if self.lookahead else StalenessConfig(),
            )
        )


@dataclass(frozen=True)
class Size:
    """Size of the graph and the model in every cell."""

    num_nodes: int = 40_000
    degree: int = 8
    num_features: int = 128
    num_sparse_features: int = 1000
    sparse_entries: int = 40
    """Non-zeros of a row, where features are sparse."""
    layers: int = 9
    hidden: int = 64
    epochs: int = 4


FACTORS: dict[str, tuple[Any, ...]] = {
    "model": ("gcn", "sage", "gcnii", "resgcn"),
    "stages": (1, 2, 3),
    "chunks": (1, 4, 32),
    "classes": (7, 100, 400, 107),
    "sparse": (False, True),
    "directed": (False, True),
    "wire": ("fp32", "bf16", "int8"),
    "tables": ("fp32", "bf16"),
    "recompute": (False, True),
    "lookahead": (False, True),
}


def is_possible(cell: Cell) -> bool:
    """Whether all settings matter: a wire format needs two stages, lookahead several chunks."""
    return (cell.wire == "fp32" or cell.stages > 1) and (not cell.lookahead or cell.chunks > 1)


def every_cell() -> Iterator[Cell]:
    """The whole product."""
    for values in itertools.product(*FACTORS.values()):
        cell = Cell(**dict(zip(FACTORS, values, strict=True)))
        if is_possible(cell):
            yield cell


def chosen_cells() -> list[Cell]:
    """Cells that together hold every possible pair of values of two factors.

    Chosen greedily: the next cell is the first one of the product with the most new pairs.
    """
    cells = list(every_cell())
    pairs = [frozenset(_pairs(cell)) for cell in cells]
    missing = frozenset().union(*pairs)
    chosen = []
    while missing:
        best = max(range(len(cells)), key=lambda number: len(pairs[number] & missing))
        chosen.append(cells[best])
        missing -= pairs[best]
    return chosen


def _pairs(cell: Cell) -> Iterator[tuple[tuple[str, Any], ...]]:
    return itertools.combinations(((name, getattr(cell, name)) for name in FACTORS), 2)
