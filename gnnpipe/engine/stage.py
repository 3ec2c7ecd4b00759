"""A stage: consecutive layers, their tables, and one chunk forward or backward through them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gnnpipe.comm.clock import Clock
from gnnpipe.comm.groups import Links
from gnnpipe.comm.halo import Halo, Route, routes
from gnnpipe.comm.place import Place
from gnnpipe.engine.chunks import Tile, TileSizes, cut
from gnnpipe.engine.layer import StageLayer
from gnnpipe.engine.layer_builder import LayerBuilder
from gnnpipe.engine.masks import DropoutSettings, Masks
from gnnpipe.engine.saved import ChunkPass
from gnnpipe.engine.tables import GradientTable, TableSettings, fit_weights
from gnnpipe.engine.weights import WeightSums, sum_fits
from gnnpipe.graph.prepared import PreparedGraph
from gnnpipe.nn.dropout import keep_all
from gnnpipe.nn.features import FeatureRows
from gnnpipe.nn.layer import Drop
from gnnpipe.nn.loss import chunk_loss
from gnnpipe.nn.models import ModelSpec, build_stack
from gnnpipe.nn.running import WeightProduct
from gnnpipe.schedule.plan import Plan


class Stage:
    """The layers of one place in the plan, for one part of the graph.

    # two aggregating layers, lookahead 1, at step F5: each layer puts a chunk and takes the one behind it
    # layer 0 puts position 5, takes 4 | layer 1 puts 4, takes 3 | 3 leaves

    Rows enter and leave as one tensor ``[streams, n, hidden]``: the hidden rows and, for models that have
    them, the initial rows h0, which every layer reads. Where the plan has them recomputed, every stage holds
    the input layer and the features instead, and its gradient is summed over all ranks.

    Args:
        place: whose layers and part.
        plan: which layers are whose.
        spec: the model.
        graph: the prepared graph.
        settings: what the tables keep.
        dropout: what the masks depend on.
        device: where everything lives.
        links: to the other parts of the stage.
        tiles: how chunks are cut into tiles; by default what suits the device.
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
        links: Links,
        tiles: TileSizes | None = None,
    ) -> None:
        self.place = place
        self.device = device
        self.hidden = spec.hidden
        self.has_initial = spec.has_initial
        shares = spec.has_initial and plan.recomputes_initial
        self.num_streams = 2 if spec.has_initial and not shares else 1
        self.num_train = int(graph.masks["train"].sum())
        self.num_rows = graph.facts.part_nodes[place.part]
        self.halo = Halo(links, Clock(device), place)
        self.forward_routes = routes(graph.halo_forward, graph.ranges, place.part, device)
        backward_routes = routes(graph.halo_backward, graph.ranges, place.part, device)
        self._settings, self._links = settings, links
        self._recomputes = plan.recompute and plan.num_chunks > 1  # one chunk would need all at once
        nothing: list[Route | None] = [None] * plan.num_chunks
        late = settings.stale_halo or settings.waits  # then no halo arrives while rows are computed
        self.chunks = cut(
            graph,
            place,
            nothing if late else self.forward_routes,
            nothing if late else backward_routes,
            device,
            tiles or TileSizes.on(device),
            features=place.is_first or shares,
        )
        stack = build_stack(spec)
        builder = LayerBuilder(
            stack,
            self.num_rows,
            settings,
            self.halo,
            self.forward_routes,
            backward_routes,
            plan.lookahead,
            device,
        )
        mine = [item for item in stack if plan.stage_of(item.convolution) == place.stage]
        self.layers = [builder.build(item) for item in mine]
        self.initial = builder.build(stack[0]) if shares and not place.is_first else None
        held = self.held_layers
        self.modules = nn.ModuleDict({layer.spec.name.replace(".", "_"): layer.module for layer in held})
        weights = [list(layer.module.parameters()) for layer in self.layers]
        shared = list(held[0].module.parameters()) if shares else []
        if shares and place.is_first:
            weights[0] = []
        self._sums = WeightSums(weights, place.num_parts, links.weights, links)
        self._shared_sums = WeightSums([shared], plan.num_ranks, links.shared, links)
        self._masks = Masks(dropout, [layer.spec.number for layer in self.layers], spec.hidden, device)
        self._passes: dict[int, ChunkPass] = {}
        self._owed: list[WeightProduct] = []
        self._order: list[int] = []

    @property
    def held_layers(self) -> list[StageLayer]:
        """Its layers, and the input layer where every stage holds that."""
        return self.layers if self.initial is None else [self.initial, *self.layers]

    @property
    def owes_products(self) -> bool:
        """Whether gradients of weights are left for `add_products`."""
        return bool(self._owed)

    @property
    def repeats(self) -> bool:
        """Whether a chunk's work is the same operations on the same memory in every epoch, in any order.

        It is unless rows travel in the middle of it, or a setting is fitted."""
        return self.place.num_parts == 1 and self.lag == 0 and not self._settings.fitted

    def chunk_at(self, position: int) -> int:
        """Number of the chunk at a position of this epoch's order."""
        return self._order[position]

    def kept_of(self, index: int) -> ChunkPass:
        """What is kept of a chunk that has run forward and not backward."""
        return self._passes[index]

    @property
    def lag(self) -> int:
        """Positions by which what leaves the stage is behind what enters it."""
        return sum(layer.lookahead for layer in self.layers)

    def begin_epoch(self, epoch: int, order: list[int]) -> None:
        """Turn tables over and choose the epoch's dropout masks.

        Args:
            epoch: its number.
            order: number of the chunk at each position.
        """
        self._masks.begin_epoch(epoch)
        self._order = order
        if self._settings.fitted:
            fit_weights(self._gradient_tables)
        for layer in self.held_layers:
            layer.begin_epoch(epoch)

    def finish_epoch(self) -> None:
        """Wait until what several ranks hold is summed over them."""
        self._shared_sums.complete(0)
        self._sums.finish()
        self._shared_sums.finish()
        if self._settings.fitted and self.place.num_parts > 1:
            sum_fits(self._gradient_tables, self._links.weights)

    @property
    def _gradient_tables(self) -> list[GradientTable]:
        return [layer.gradients.table for layer in self.layers if layer.gradients is not None]

    def settle(self) -> None:
        """Wait for boundary rows that would travel beside the next epoch; only a stale halo has any."""
        for layer in self.layers:
            layer.settle()
        self.halo.take_waits()

    def shape(self, index: int) -> tuple[int, int, int]:
        """Shape of a chunk's rows at a stage boundary."""
        return self.num_streams, self.chunks[index].chunk.num_nodes, self.hidden

    @torch.no_grad()
    def forward(self, position: int, rows: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """Bring in the chunk at a position, and those behind it in the layers one further.

        Args:
            position: of the epoch's order; beyond its end nothing comes in.
            rows: from the stage before; None on the first, which reads features.

        Returns:
            rows for the next stage, of the chunk `lag` positions before, and None; or on the last stage its
            logits and the sum of its training loss. None twice where no chunk has come that far.
        """
        h = self._enter(self._order[position], rows) if position < len(self._order) else None
        out: Tensor | None = None
        for layer in self.layers:
            if h is not None:
                index = self._order[position]
                data, kept = self.chunks[index], self._passes[index]
                drops = self._masks.of_layer(layer.spec.number, data, kept.masks)
                kept.layers.append(layer.put(index, data, h, drops, self._owed))
                if self._recomputes:
                    kept.remember(layer, h)
                if len(kept.layers) == len(self.layers):
                    kept.masks = None
            position -= layer.lookahead
            if position < 0:
                return None, None
            h = out = None
            if position < len(self._order):
                index = self._order[position]
                out = self._take(layer, index)
                h = self.chunks[index].split(out)
        assert out is not None
        return self._leave(position, out)

    def _take(self, layer: StageLayer, index: int) -> Tensor:
        kept = self._passes[index]
        h = layer.take(index, self.chunks[index], kept.layers[-1], kept.h0)
        if self._starts_initial(layer):
            kept.h0 = h
        if self._recomputes:
            layer.forget(kept.layers[-1])
        return h

    def _leave(self, position: int, h: Tensor) -> tuple[Tensor, Tensor | None]:
        data, kept = self.chunks[self._order[position]], self._passes[self._order[position]]
        if not self.place.is_last:
            return self._packed(h, kept.h0), None
        assert data.labels is not None
        assert data.train_rows is not None
        loss, kept.gradient = chunk_loss(h, data.labels, data.train_rows, self.num_train)
        return h, loss

    @torch.no_grad()
    def backward(self, position: int, rows: Tensor | None) -> Tensor | None:
        """Bring in the gradient of the chunk at a position, and those behind it one layer back.

        Gradients of weights that others don't wait for are left to `add_products`.

        Args:
            position: of the epoch's order; before its begin nothing comes in.
            rows: gradients from the stage behind; None on the last, which has the loss's.

        Returns:
            gradients for the stage before, of the chunk `lag` positions behind; None on the first, or where
            no chunk has come that far.
        """
        gradient = self._enter_back(self._order[position], rows) if position >= 0 else None
        for number, layer in reversed(list(enumerate(self.layers))):
            if position >= 0:
                assert gradient is not None
                index = self._order[position]
                data, kept = self.chunks[index], self._passes[index]
                if self._starts_initial(layer) and kept.h0_gradient is not None:
                    gradient.add_(kept.h0_gradient)
                layer.put_back(index, data, kept.layers[number], gradient, kept.h0_gradient)
            position += layer.lookahead
            if position >= len(self._order):
                return None
            if position < 0:
                continue
            index = self._order[position]
            gradient = layer.take_back(index, self.chunks[index], self._passes[index].layers[number])
            summed = position == 0 and self.place.num_parts > 1
            if summed or self.place.is_first:  # nobody waits for what the first stage hands back
                self.add_products()
            if summed:
                self._sums.complete(number)
        index = self._order[position]
        kept = self._passes.pop(index)
        if self.initial is not None:
            assert kept.initial is not None
            assert kept.h0_gradient is not None
            self.initial.put_back(index, self.chunks[index], kept.initial, kept.h0_gradient, None)
        return None if gradient is None else self._packed(gradient, kept.h0_gradient)

    def noise(self, position: int) -> Tensor:
        """Random bytes to round the gradient with that leaves for the stage before; see `Masks.noise`."""
        return self._masks.noise(self.chunks[self._order[position]], self.num_streams)

    @property
    def counted_weights(self) -> list[nn.Parameter]:
        """Weights that no other rank counts as its own."""
        layers = self.layers if self.place.part == 0 else []
        return [weight for layer in layers for weight in layer.module.parameters()]

    def _packed(self, h: Tensor, initial: Tensor | None) -> Tensor:
        """What crosses a stage boundary."""
        if self.num_streams == 1:
            return h.unsqueeze(0)
        assert initial is not None
        return torch.stack([h, initial])

    @torch.no_grad()
    def add_products(self) -> None:
        """Compute the gradients of weights that were left since the last call."""
        for product in self._owed:
            product.add()
        self._owed.clear()

    def _enter_back(self, index: int, rows: Tensor | None) -> Tensor | None:
        kept = self._passes[index]
        kept.recall(self.layers, self.chunks[index])
        if kept.h0 is not None:
            relayed = rows if self.num_streams == 2 else None
            kept.h0_gradient = torch.zeros_like(kept.h0) if relayed is None else relayed[1]
        return kept.gradient if rows is None else rows[0]

    def _enter(self, index: int, rows: Tensor | None) -> Sequence[FeatureRows]:
        data = self.chunks[index]
        kept = self._passes[index] = ChunkPass(self._masks.of_chunk(data))
        if rows is None:
            return data.features
        if self.initial is not None:
            drops = self._masks.of_layer(self.initial.spec.number, data)
            kept.initial = self.initial.put(index, data, data.features, drops, self._owed)
            kept.h0 = self.initial.take(index, data, kept.initial, None)
        elif self.has_initial:
            kept.h0 = rows[1]
        return data.split(rows[0])

    @property
    def exchanges_history(self) -> bool:
        """Whether history has halo rows; a stale halo is kept elsewhere."""
        return not self._settings.stale_halo

    def history_drop(self, layer: StageLayer, tile: Tile, epoch: int) -> Drop:
        """The dropout of a layer's historical rows as ``epoch`` is to read them."""
        if self._settings.clean:
            return keep_all
        return self._masks.of_tile(layer.spec.number, tile, epoch)

    def _starts_initial(self, layer: StageLayer) -> bool:
        return self.has_initial and layer.spec.number == 0
