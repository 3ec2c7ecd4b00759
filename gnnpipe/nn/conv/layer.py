"""`Conv`: a torch_geometric convolution as a layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gnnpipe.config.run import Norm
from gnnpipe.errors import ConfigError, shown
from gnnpipe.graph.prepare.normalize import Normalization
from gnnpipe.nn.batch_norm import convert_batch_norms
from gnnpipe.nn.blocks.block import BlockLayer
from gnnpipe.nn.blocks.edges import BlockEdges
from gnnpipe.nn.conv.call import Call, Refused, reads_attr
from gnnpipe.nn.conv.form import Form, on_block
from gnnpipe.nn.conv.probe import Widths, aside, on_cpu, probe, quoted
from gnnpipe.nn.conv.reasons import reason
from gnnpipe.nn.conv.sample import EdgeKinds
from gnnpipe.nn.conv.selftest import Subject, failures, right_form
from gnnpipe.nn.layers.norm import norm_of

RowWise: TypeAlias = Callable[[Tensor], Tensor]
"""A module or a function of rows, each of which it treats alone."""
Skip = bool | Literal["identity", "linear"]
RELU = (torch.relu, torch.relu_, F.relu)
# Rows on which a norm is tried.
NUM_TRIED = 12


class Conv(BlockLayer):
    """A convolution of torch_geometric, or one written like those, with a norm, an activation and a skip.

        x = dropout(h)
        out = act(norm(conv(x, edges) + skip(x)))

    This is the order of the tuned baselines of arXiv 2406.08993. The convolution may be any module with a
    ``forward(x, edge_index, ...)``; where this takes ``edge_weight``, ``edge_attr``, ``edge_type`` or
    ``size``, it is given them. How it is called on a block is found by `settle`.

    Args:
        conv: the convolution; its weights are drawn as it was made.
        norm: a module such as ``nn.LayerNorm(64)`` that treats each row alone, or nn.BatchNorm1d; or "layer"
            or "batch" for these.
        act: activation, a module or a function.
        skip: the connection around the convolution: "identity", "linear" (a weight), or True for the first
            of them that fits the widths.
        dropout: probability that an entry of the input rows is dropped; None for the run's.
        edges: the adjacency that the convolution is given. "none": edges with their weights; "loops": and a
            self loop for every node; "gcn", "mean": normalised. All layers of a model share one.
        in_features: columns of the input, where the convolution has no weights that tell.

    Shapes: ``[n, in_features] -> [n, out_features]``.

    Raises:
        ConfigError: the convolution can't run, or an argument does not fit it; the message says why, and what
            helps.
    """

    def __init__(
        self,
        conv: nn.Module,
        *,
        norm: nn.Module | Norm | None = None,
        act: RowWise | None = None,
        skip: Skip = False,
        dropout: float | None = None,
        edges: Normalization = "none",
        in_features: int | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(conv, nn.Module):
            raise ConfigError(f"Conv({shown(repr(conv))}): give it a convolution such as SAGEConv(64, 64)")
        self.conv, self.edges, self.drop_rate = self._converted(conv), edges, dropout
        self.normalization = edges
        widths = self._probed(in_features)
        self.reads_edges = bool(self.reads & {"attr", "type"})
        self.in_features = self.width = widths.in_features
        self.out_features, self.draws = widths.out_features, widths.draws
        self.skip = self._skip(skip)
        self.norm = self._norm(norm)
        self.act = act
        self.relu = isinstance(act, nn.ReLU) or act in RELU
        self._check_rows()
        self.form: Form | None = None
        """How the convolution is called; None before `settle`."""

    def combine(self, referenced: Tensor, own: Tensor, edges: BlockEdges) -> Tensor:
        """The convolution, then skip connection, norm and activation.

        Raises:
            ConfigError: it is the first call, and the self-test fails.
        """
        form = self.form or self.settle(self._kinds(edges))
        return self._behind(on_block(form, self.conv, self._call, referenced, own, edges), own)

    def settle(self, kinds: EdgeKinds) -> Form:
        """Find how the convolution is called on a block, by a self-test of a few hundredths of a second.

        Args:
            kinds: what edges of the graph have.

        Raises:
            ConfigError: neither form gives what the whole graph gives.
        """
        subject = Subject(self.conv, self._call, self.in_features, kinds, self.edges)
        try:
            found = failures(subject)
            form = right_form(found)
            if form is None:
                raise Refused(reason(subject, found))
        except Refused as error:
            raise self._error(str(error)) from error
        self.form = form
        return form

    @property
    def reads(self) -> frozenset[str]:
        """The properties of edges that it reads, among "weight", "attr" and "type"."""
        takes = {name.removeprefix("edge_") for name in self._call.takes if name.startswith("edge_")}
        return frozenset(takes if reads_attr(self.conv) else takes - {"attr"})

    def extra_repr(self) -> str:
        """Settings, for printing."""
        settled = "" if self.form is None else f", form={self.form}"
        return f"edges={self.edges}{settled}"

    def _behind(self, rows: Tensor, own: Tensor) -> Tensor:
        """Output rows from those of the convolution."""
        if self.skip is not None:
            rows = rows + self.skip(own)
        if self.norm is not None:
            rows = self.norm(rows)
        return rows if self.act is None else self.act(rows)

    def _probed(self, in_features: int | None) -> Widths:
        try:
            self._call = Call.of(self.conv)
            return probe(self.conv, self._call, in_features)
        except Refused as error:
            raise self._error(str(error)) from error

    def _skip(self, skip: Skip) -> nn.Module | None:
        """The skip connection; its weight is drawn by the generator of the process, as the convolution's."""
        fits = self.in_features == self.out_features
        if skip is False:
            return None
        if skip == "identity" and not fits:
            raise self._error(
                f'skip="identity": the input has {self.in_features} columns and the output '
                f'{self.out_features}; use skip="linear"'
            )
        if skip == "identity" or (skip is True and fits):
            return nn.Identity()
        if skip is True or skip == "linear":
            return nn.Linear(self.in_features, self.out_features, bias=False)
        raise self._error(f'skip={shown(repr(skip))}: give it True, False, "identity" or "linear"')

    def _norm(self, norm: nn.Module | Norm | None) -> nn.Module | None:
        if norm is None or isinstance(norm, nn.Module):
            return None if norm is None else self._converted(norm)
        if norm in get_args(Norm):
            return norm_of(norm, self.out_features)
        kinds = ", ".join(f'"{kind}"' for kind in get_args(Norm))
        raise self._error(f"norm={shown(repr(norm))}: give it a module, or one of {kinds}")

    def _converted(self, module: nn.Module) -> nn.Module:
        """A module with our own batch norms, which know of chunks, in place of PyTorch's."""
        try:
            return convert_batch_norms(module)
        except ValueError as error:
            raise ConfigError(f"Conv({type(module).__name__}): {error}") from error

    def _check_rows(self) -> None:
        """Check on random rows that norm and activation treat each row alone."""
        for name, module in (("norm", self.norm), ("act", self.act)):
            if module is None:
                continue
            with aside():
                rows = torch.rand(NUM_TRIED, self.out_features, dtype=torch.float32)
                twin = on_cpu(module).float() if isinstance(module, nn.Module) else module
                try:
                    together = _eval(twin)(rows.clone())
                    alone = torch.cat([_eval(twin)(half.clone()) for half in (rows[:5], rows[5:])])
                except Exception as error:
                    raise self._error(
                        f"{name} can't be run on the {self.out_features} columns that the convolution makes: "
                        f"{quoted(error)}"
                    ) from error
            if together.shape != rows.shape:
                raise self._error(f"{name} turns {list(rows.shape)} rows into {list(together.shape)}")
            if not torch.allclose(together, alone, atol=1e-5):
                raise self._error(
                    f"{name}: what it makes of a row depends on other rows, and a chunk does not have all; "
                    'use nn.LayerNorm, which is torch_geometric\'s LayerNorm(mode="node")'
                )

    def _kinds(self, edges: BlockEdges) -> EdgeKinds:
        """Numbers of features and types of a block's edges, as far as these tell."""
        num_types = 0
        if edges.type is not None:
            largest = int(edges.type.max()) if edges.type.numel() else 0
            # the last one is that of added self loops
            num_types = max(1, largest + (self.edges in ("none", "mean")))
        return EdgeKinds(0 if edges.attr is None else edges.attr.shape[1], num_types)

    def _error(self, text: str) -> ConfigError:
        return ConfigError(f"Conv({type(self.conv).__name__}): {text}")


def _eval(module: RowWise) -> RowWise:
    return module.eval() if isinstance(module, nn.Module) else module
