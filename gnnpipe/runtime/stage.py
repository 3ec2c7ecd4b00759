"""A stage: consecutive layers, their tables, and one chunk forward or backward through them."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from gnnpipe.graph.prepared import PreparedGraph
from gnnpipe.model.dropout import Dropout, dropout_key, keep_all
from gnnpipe.model.features import FeatureRows
from gnnpipe.model.layers.base import Layer
from gnnpipe.model.loss import chunk_loss
from gnnpipe.model.stack import LayerSpec, ModelSpec, build_stack
from gnnpipe.plan.plan import Plan
from gnnpipe.runtime.chunk_data import ChunkData, cut
from gnnpipe.runtime.place import Place
from gnnpipe.runtime.tables import ForwardTable, GradientTable, TableSettings


@dataclass(frozen=True)
class DropoutSettings:
    """What the dropout masks of a run depend on."""

    rate: float
    seed: int
    hold: int
    """Epochs that share their masks."""


@dataclass
class LayerPass:
    """What a layer keeps of a chunk from forward to backward."""

    h: FeatureRows
    x: Tensor | None
    carry: Tensor | None
    carry_leaf: Tensor | None
    z: Tensor | None
    out: Tensor


@dataclass
class ChunkPass:
    """What a stage keeps of a chunk from forward to backward."""

    layers: list[LayerPass] = field(default_factory=list)
    h0: Tensor | None = None
    gradient: Tensor | None = None
    """Of the logits, on the last stage."""


@dataclass(frozen=True)
class StageLayer:
    """A built layer with its tables (None where it aggregates nothing)."""

    spec: LayerSpec
    module: Layer
    table: ForwardTable | None
    gradients: GradientTable | None


class Stage:
    """The layers of one place in the plan.

    Rows enter and leave as one tensor ``[streams, n, hidden]``: the hidden rows and, for models that have
    them, the initial rows h0, which every layer reads.

    Args:
        place: whose layers.
        plan: which layers are whose.
        spec: the model.
        graph: the prepared graph.
        settings: what the tables keep.
        dropout: what the masks depend on.
        device: where everything lives.
    """

    def __init__(
        self,
        place: Place,
        plan: Plan,
        spec: ModelSpec,
        graph: PreparedGraph,
        settings: TableSettings,
        dropout: DropoutSettings,
        device: torch.device,
    ) -> None:
        self.place = place
        self.device = device
        self.hidden = spec.hidden
        self.num_streams = 2 if spec.has_initial else 1
        self._has_initial = spec.has_initial
        self._dropout = dropout
        mine = [item for item in build_stack(spec) if plan.stage_of(item.convolution) == place.stage]
        num_nodes = graph.facts.num_nodes
        self.layers = [_with_tables(item, num_nodes, settings, device) for item in mine]
        self.modules = nn.ModuleDict(
            {layer.spec.name.replace(".", "_"): layer.module for layer in self.layers}
        )
        self.chunks = cut(graph, place, device)
        self.num_train = int(graph.masks["train"].sum())
        self._passes: dict[int, ChunkPass] = {}
        self._draw = 0

    def begin_epoch(self, epoch: int) -> None:
        """Turn tables over and choose the epoch's dropout masks."""
        self._draw = epoch // self._dropout.hold
        for layer in self.layers:
            if layer.table is not None and layer.gradients is not None:
                layer.table.begin_epoch(epoch)
                layer.gradients.begin_epoch()

    def shape(self, index: int) -> tuple[int, int, int]:
        """Shape of a chunk's rows at a stage boundary."""
        return self.num_streams, self.chunks[index].chunk.num_nodes, self.hidden

    def forward(self, index: int, rows: Tensor | None) -> tuple[Tensor, float]:
        """Bring a chunk through the layers.

        Args:
            index: number of the chunk.
            rows: from the stage before; None on the first, which reads features.

        Returns:
            rows for the next stage and 0, or on the last stage the logits and the sum of the training loss.
        """
        data, kept = self.chunks[index], ChunkPass()
        h = self._enter(data, rows, kept)
        for layer in self.layers:
            with torch.enable_grad():
                done = self._layer_forward(layer, data, h, kept.h0)
            kept.layers.append(done)
            h = done.out.detach()
            if self._starts_initial(layer):
                kept.h0 = h.detach().requires_grad_()
        self._passes[index] = kept
        if not self.place.is_last:
            return self._packed(h, kept.h0), 0.0
        assert isinstance(h, Tensor)
        assert data.labels is not None
        loss, kept.gradient = chunk_loss(h, data.labels, data.masks["train"], self.num_train)
        return h, loss

    def backward(self, index: int, rows: Tensor | None) -> Tensor | None:
        """Bring a chunk's gradient back through the layers; weights' gradients add up.

        Args:
            index: number of the chunk.
            rows: gradients from the stage behind; None on the last, which has the loss's.

        Returns:
            gradients for the stage before, or None on the first.
        """
        data, kept = self.chunks[index], self._passes.pop(index)
        gradient = kept.gradient
        if rows is not None:
            gradient = rows[0]
            if kept.h0 is not None:
                kept.h0.grad = rows[1]
        assert gradient is not None
        for layer, done in zip(reversed(self.layers), reversed(kept.layers), strict=True):
            if self._starts_initial(layer) and kept.h0 is not None and kept.h0.grad is not None:
                gradient = gradient + kept.h0.grad
            back = self._layer_backward(layer, data, done, gradient)
            if back is None:
                return None
            gradient = back
        return self._packed(gradient, None if kept.h0 is None else kept.h0.grad)

    def _enter(self, data: ChunkData, rows: Tensor | None, kept: ChunkPass) -> FeatureRows:
        if rows is None:
            assert data.features is not None
            return data.features
        if self._has_initial:
            kept.h0 = rows[1].requires_grad_()
        return rows[0]

    def _starts_initial(self, layer: StageLayer) -> bool:
        return self._has_initial and layer.spec.number == 0

    def _packed(self, h: FeatureRows, h0: Tensor | None) -> Tensor:
        assert isinstance(h, Tensor)
        if not self._has_initial:
            return h.unsqueeze(0)
        assert h0 is not None
        return torch.stack([h, h0.detach()])

    def _layer_forward(
        self, layer: StageLayer, data: ChunkData, h: FeatureRows, h0: Tensor | None
    ) -> LayerPass:
        if isinstance(h, Tensor) and h is not data.features:
            h = h.detach().requires_grad_()
        dropout = self._dropout
        drop = Dropout(dropout.rate, dropout_key(dropout.seed, self._draw, layer.spec.number), data.node_id)
        x, carry = layer.module.message(h, drop)
        carry_leaf = None if carry is None else carry.detach().requires_grad_()
        z = None
        if layer.table is not None:
            assert x is not None
            layer.table.write(data.chunk, x.detach(), lambda: _clean_message(layer.module, h))
            z = (data.pull @ layer.table.rows).requires_grad_()
        return LayerPass(h, x, carry, carry_leaf, z, layer.module.update(z, carry_leaf, h0))

    def _layer_backward(
        self, layer: StageLayer, data: ChunkData, done: LayerPass, gradient: Tensor
    ) -> Tensor | None:
        """Gradient of the layer's input rows; None if they are features."""
        torch.autograd.backward(done.out, gradient)
        ends, gradients = [], []
        if done.carry is not None and done.carry_leaf is not None and done.carry_leaf.grad is not None:
            ends.append(done.carry)
            gradients.append(done.carry_leaf.grad)
        if done.x is not None and done.x.requires_grad:
            assert layer.gradients is not None
            assert done.z is not None
            assert done.z.grad is not None
            ends.append(done.x)
            gradients.append(layer.gradients.exchange(data.chunk, done.z.grad, data.pull_back))
        if ends:
            torch.autograd.backward(ends, gradients)
        return done.h.grad if isinstance(done.h, Tensor) else None


def _clean_message(module: Layer, h: FeatureRows) -> Tensor:
    with torch.no_grad():
        x, _ = module.message(h, keep_all)
    assert x is not None
    return x.detach()


def _with_tables(
    spec: LayerSpec, num_nodes: int, settings: TableSettings, device: torch.device
) -> StageLayer:
    module = spec().to(device)
    if module.width is None:
        return StageLayer(spec, module, None, None)
    table = ForwardTable(num_nodes, module.width, settings, device)
    return StageLayer(spec, module, table, GradientTable(num_nodes, module.width, settings, device))
