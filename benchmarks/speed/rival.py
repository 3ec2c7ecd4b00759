"""Full-graph training as an engineer would write it who knows PyTorch well, on the built-in graph.

python -m benchmarks.speed.rival --model gcnii --layers 32 [--bf16] [--products onednn]

Prints a JSON list with the seconds of each epoch but the first. What it takes from that engineer's chest:

* rows in an order that is local (cells of METIS, the same as gnnpipe's);
* an aggregation by `torch.embedding_bag` over a CSR matrix, whose transpose is kept;
* products in front of the aggregation where that makes rows narrower;
* dropout from raw random bytes, compared straight into the type of the rows (`F.dropout` is serial on CPUs
  from AMD);
* with ``--bf16`` rows, products, aggregations and gradients of rows in bfloat16, weights in float32;
* with ``--products onednn`` float32 products by oneDNN, at full precision, where MKL is slow.

Like gnnpipe, it keeps freed memory and asks for huge pages.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import time
from typing import Any

os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gnnpipe.comm.world import keep_freed_memory
from gnnpipe.config.run import SyntheticConfig
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.cut.chunks import CutSpec
from gnnpipe.graph.prepare.normalize import Normalization
from gnnpipe.graph.prepare.prepared import PreparedGraph, prepare
from gnnpipe.graph.sources.synthetic import planted_partition
from gnnpipe.planner.costs import row_cost

RATE = 0.5


class Matrix:
    """A sparse matrix to multiply rows with: CSR, with values in the type of the rows."""

    def __init__(self, csr: Csr, dtype: torch.dtype) -> None:
        # indices and offsets of embedding_bag have one type
        self.rowptr, self.col = csr.rowptr.to(csr.col.dtype), csr.col
        self.value = csr.value.to(dtype)

    def __matmul__(self, rows: Tensor) -> Tensor:
        return torch.embedding_bag(
            rows, self.col, self.rowptr, False, 0, False, self.value, include_last_offset=True
        )[0]


class Pull(torch.autograd.Function):
    """``A @ x``, differentiated by the kept transpose."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, matrix: Matrix, transpose: Matrix) -> Tensor:
        ctx.transpose = transpose
        return matrix @ rows

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return ctx.transpose @ gradients[0].contiguous(), None, None


class CheapDropout(torch.autograd.Function):
    """Dropout with `RATE` from raw random bytes."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        words = torch.empty(-(-rows.numel() // 8), dtype=torch.int64).random_(-(2**62), 2**62)
        bits = words.view(torch.uint8)[: rows.numel()].view(rows.shape)
        keep = torch.empty_like(rows)
        torch.ge(bits, int(256 * RATE), out=keep)
        keep.mul_(1 / (1 - RATE))
        ctx.save_for_backward(keep)
        return rows * keep

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (keep,) = ctx.saved_tensors
        return gradients[0] * keep


class Model(nn.Module):
    """What the models share: the adjacency, and products in the type of the rows."""

    def __init__(self, matrix: Matrix, transpose: Matrix) -> None:
        super().__init__()
        self._matrices = matrix, transpose

    def pull(self, rows: Tensor) -> Tensor:
        return Pull.apply(rows, *self._matrices)  # type: ignore[no-any-return]


def drop(rows: Tensor) -> Tensor:
    """Rows after dropout."""
    return CheapDropout.apply(rows)  # type: ignore[no-any-return]


def product(rows: Tensor, layer: nn.Linear, *, bias: bool = True) -> Tensor:
    """Rows times a layer's weight, in the type of the rows."""
    dtype = rows.dtype
    return F.linear(
        rows, layer.weight.to(dtype), layer.bias.to(dtype) if bias and layer.bias is not None else None
    )


class Gcnii(Model):
    """GCNII: ``h' = ReLU(s (1 - b) + b s W)``, ``s = 0.9 A drop(h) + 0.1 h0``."""

    def __init__(self, sizes: tuple[int, int, int], layers: int, matrix: Matrix, transpose: Matrix) -> None:
        super().__init__(matrix, transpose)
        features, hidden, classes = sizes
        self.first, self.last = nn.Linear(features, hidden), nn.Linear(hidden, classes)
        self.weights = nn.ParameterList(torch.empty(hidden, hidden) for _ in range(layers))
        for weight in self.weights:
            nn.init.xavier_uniform_(weight)

    def forward(self, x: Tensor) -> Tensor:
        h = h0 = product(drop(x), self.first).relu()
        for number, weight in enumerate(self.weights):
            beta = math.log(0.5 / (number + 1) + 1)
            s = torch.lerp(self.pull(drop(h)), h0, 0.1)
            h = torch.addmm(s, s, weight.to(s.dtype), beta=1 - beta, alpha=beta).relu()
        return product(drop(h), self.last)


class Plain(Model):
    """GCN, or GraphSAGE with a second product for a node's own row."""

    def __init__(
        self,
        sizes: tuple[int, int, int],
        layers: int,
        matrix: Matrix,
        transpose: Matrix,
        *,
        own: bool,
    ) -> None:
        super().__init__(matrix, transpose)
        features, hidden, classes = sizes
        pairs = list(itertools.pairwise([features, *[hidden] * (layers - 1), classes]))
        self.neighbours = nn.ModuleList(nn.Linear(*pair) for pair in pairs)
        self.own = nn.ModuleList(nn.Linear(*pair, bias=False) for pair in pairs) if own else None

    def forward(self, x: Tensor) -> Tensor:
        for number, layer in enumerate(self.neighbours):
            x = drop(x)
            narrows = layer.out_features < layer.in_features
            if narrows:
                z = self.pull(product(x, layer, bias=False)) + layer.bias.to(x.dtype)
            else:
                z = product(self.pull(x), layer)
            x = z if self.own is None else z + product(x, self.own[number])
            if number < len(self.neighbours) - 1:
                x = x.relu()
        return x


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """The flags of every rival."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=("gcnii", "gcn", "sage"), default="gcnii")
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--num-nodes", type=int, default=100_000)
    parser.add_argument("--avg-degree", type=float, default=20.0)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    return parser


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--products", choices=("mkl", "onednn"), default="mkl")
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    if options.products == "onednn":
        torch.set_float32_matmul_precision("medium")
    torch.manual_seed(0)
    graph, num_classes = local_graph(graph_of(options), options.model)
    dtype = torch.bfloat16 if options.bf16 else torch.float32
    matrices = Matrix(graph.matrix, dtype), Matrix(graph.matrix_t, dtype)
    sizes = options.hidden, options.hidden, num_classes
    model: nn.Module = (
        Gcnii(sizes, options.layers, *matrices)
        if options.model == "gcnii"
        else Plain(sizes, options.layers, *matrices, own=options.model == "sage")
    )
    assert isinstance(graph.features, Tensor)
    features, train = graph.features.to(dtype), graph.masks["train"].nonzero().squeeze(1)
    labels = graph.labels[train]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
    seconds = []
    for _ in range(options.epochs):
        began = time.perf_counter()
        optimizer.zero_grad()
        loss = F.cross_entropy(model(features)[train].float(), labels)
        loss.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - began)
    print(json.dumps(seconds[1:]))


def graph_of(options: argparse.Namespace) -> SyntheticConfig:
    """The built-in graph that the flags ask for, with as many features as hidden columns."""
    return SyntheticConfig(
        num_nodes=options.num_nodes, avg_degree=options.avg_degree, num_features=options.hidden
    )


def local_graph(config: SyntheticConfig, model: str) -> tuple[PreparedGraph, int]:
    """A graph in METIS cells, normalised as the model wants it, and its number of classes."""
    data = planted_partition(config, split=0)
    normalization: Normalization = "mean" if model == "sage" else "gcn"
    return prepare(data, CutSpec(1, 1, row_cost(config.num_features)), normalization), data.num_classes


if __name__ == "__main__":
    main()
