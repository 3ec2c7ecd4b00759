"""A stage: consecutive layers, their tables, and one chunk forward or backward through them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

import torch
from torch import Tensor, nn

from gnnpipe.comm.clock import Clock
from gnnpipe.comm.groups import Links
from gnnpipe.comm.halo import Halo, Route, routes
from gnnpipe.comm.place import Place
from gnnpipe.comm.weights import WeightSums, sum_small
from gnnpipe.engine.chunks import Tile, TileSizes, cut
from gnnpipe.engine.initial_rows import initial_rows_of
from gnnpipe.engine.layer import StageLayer
from gnnpipe.engine.layer_builder import LayerBuilder
from gnnpipe.engine.masks import DropoutSettings, Masks
from gnnpipe.engine.saved import ChunkPass
from gnnpipe.engine.tables import GradientTable, TableSettings, fit_weights
from gnnpipe.graph.prepared import PreparedGraph
from gnnpipe.nn.dropout import keep_all
from gnnpipe.nn.features import FeatureRows
from gnnpipe.nn.layer import Drop
from gnnpipe.nn.loss import chunk_loss
from gnnpipe.nn.models import ModelSpec, build_stack
from gnnpipe.nn.running import WeightProduct
from gnnpipe.schedule.actions import Action
from gnnpipe.schedule.plan import Plan


class Stage:
    """The layers of one place in the plan, for one part of the graph.

    An action says which chunk each layer puts and takes; see `Action` for a picture. Rows enter and leave as
    one tensor ``[streams, n, hidden]``: the hidden rows and, where they travel, the initial rows.

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
        initial_rows = initial_rows_of(spec, plan)
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
            features=place.is_first or initial_rows.on_every_stage,
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
        self.layers = [
            builder.build(item) for item in stack if plan.stage_of(item.convolution) == place.stage
        ]
        # the seams in front of each layer and behind it; only between layers that aggregate is there another
        self._seams = list(pairwise(accumulate((layer.rows is not None for layer in self.layers), initial=0)))
        self.initial = initial_rows(self.layers, lambda: builder.build(stack[0]))
        names = {layer.spec.name.replace(".", "_"): layer.module for layer in self.held_layers}
        self.modules = nn.ModuleDict(names)
        shared = self.initial.shared
        weights = [[] if layer in shared else list(layer.module.parameters()) for layer in self.layers]
        self._sums = WeightSums(weights, place.num_parts, links.weights, links)
        shared_weights = [weight for layer in shared for weight in layer.module.parameters()]
        self._shared_sums = WeightSums([shared_weights], plan.num_ranks, links.shared, links)
        self._masks = Masks(dropout, [layer.spec.number for layer in self.layers], spec.hidden, device)
        self._passes: dict[int, ChunkPass] = {}
        self._owed: list[WeightProduct] = []
        self._order: list[int] = []

    @property
    def held_layers(self) -> list[StageLayer]:
        """Its layers, and the input layer where every stage holds that."""
        return [*self.initial.beside, *self.layers]

    @property
    def owes_products(self) -> bool:
        """Whether gradients of weights are left for `add_products`."""
        return bool(self._owed)

    @property
    def repeats(self) -> bool:
        """Whether a chunk's work is the same operations on the same memory in every epoch, in any order.

        It is unless rows travel in the middle of it, or a setting is fitted."""
        return self.place.num_parts == 1 and not (self._settings.waits or self._settings.fitted)

    def entering(self, action: Action) -> int:
        """Number of the chunk that comes in with an action; one must."""
        assert action.enters is not None
        return self._order[action.enters]

    def kept_of(self, index: int) -> ChunkPass:
        """What is kept of a chunk that has run forward and not backward."""
        return self._passes[index]

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
            sum_small([table.fit for table in self._gradient_tables], self._links)

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
        return self.initial.num_streams, self.chunks[index].chunk.num_nodes, self.hidden

    @torch.no_grad()
    def forward(self, action: Action, rows: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """Admit the chunk that enters, and bring chunks through the layers that take one.

        Args:
            action: which chunk is where.
            rows: from the stage before; None on the first, which reads features, and where nothing enters.

        Returns:
            rows of the chunk that leaves, and None; or on the last stage its logits and the sum of its
            training loss. None twice where none leaves.
        """
        h: Sequence[FeatureRows] = ()
        out: Tensor | None = None
        if action.enters is not None:
            h = self._enter(self._order[action.enters], rows)
        for layer, (front, behind) in zip(self.layers, self._seams, strict=True):
            put, taken = action.seams[front], action.seams[behind]
            if put is not None:
                self._put(layer, self._order[put], h)
            if taken is not None:
                index = self._order[taken]
                out = self._take(layer, index)
                h = self.chunks[index].split(out)
        if action.leaves is None:
            return None, None
        assert out is not None
        return self._leave(self._order[action.leaves], out)

    def _put(self, layer: StageLayer, index: int, h: Sequence[FeatureRows]) -> None:
        data, kept = self.chunks[index], self._passes[index]
        drops = self._masks.of_layer(layer.spec.number, data, kept.masks)
        kept.layers.append(layer.put(index, data, h, drops, self._owed))
        if self._recomputes:
            kept.remember(layer, h)
        if len(kept.layers) == len(self.layers):
            kept.masks = None

    def _take(self, layer: StageLayer, index: int) -> Tensor:
        kept = self._passes[index]
        h = layer.take(index, self.chunks[index], kept.layers[-1], kept.initial.rows)
        if self.initial.start_at(layer):
            kept.initial.rows = h
        if self._recomputes:
            layer.forget(kept.layers[-1])
        return h

    def _leave(self, index: int, h: Tensor) -> tuple[Tensor, Tensor | None]:
        data, kept = self.chunks[index], self._passes[index]
        if not self.place.is_last:
            return self.initial.packed(h, kept.initial.rows), None
        assert data.labels is not None
        assert data.train_rows is not None
        loss, kept.gradient = chunk_loss(h, data.labels, data.train_rows, self.num_train)
        return h, loss

    @torch.no_grad()
    def backward(self, action: Action, rows: Tensor | None) -> Tensor | None:
        """Admit the gradient of the chunk that enters, and bring chunks back through the layers.

        Gradients of weights that others don't wait for are left to `add_products`.

        Args:
            action: which chunk is where.
            rows: gradients from the stage behind; None on the last, which has the loss's, and where nothing
                enters.

        Returns:
            gradients for the stage before, of the chunk that leaves; None on the first, or where none leaves.
        """
        gradient: Tensor | None = None
        if action.enters is not None:
            gradient = self._enter_back(self._order[action.enters], rows)
        for number in reversed(range(len(self.layers))):
            front, behind = self._seams[number]
            put, taken = action.seams[behind], action.seams[front]
            if put is not None:
                assert gradient is not None
                self._put_back(number, self._order[put], gradient)
            if taken is not None:
                gradient = self._take_back(number, taken)
        return None if action.leaves is None else self._leave_back(self._order[action.leaves], gradient)

    def _put_back(self, number: int, index: int, gradient: Tensor) -> None:
        layer, kept = self.layers[number], self._passes[index]
        if self.initial.start_at(layer):
            assert kept.initial.gradient is not None
            gradient.add_(kept.initial.gradient)
        layer.put_back(index, self.chunks[index], kept.layers[number], gradient, kept.initial.gradient)

    def _take_back(self, number: int, position: int) -> Tensor | None:
        index = self._order[position]
        done = self._passes[index].layers[number]
        gradient = self.layers[number].take_back(index, self.chunks[index], done)
        # the last chunk on its way back is the first one in the order
        summed = position == 0 and self.place.num_parts > 1
        if summed or self.place.is_first:  # nobody waits for what the first stage hands back
            self.add_products()
        if summed:
            self._sums.complete(number)
        return gradient

    def _leave_back(self, index: int, gradient: Tensor | None) -> Tensor | None:
        kept = self._passes.pop(index).initial
        self.initial.leave_back(index, self.chunks[index], kept)
        return None if gradient is None else self.initial.packed(gradient, kept.gradient)

    def noise(self, action: Action) -> Tensor:
        """Random bytes to round the gradient with that leaves for the stage before; see `Masks.noise`."""
        assert action.leaves is not None
        return self._masks.noise(self.chunks[self._order[action.leaves]], self.initial.num_streams)

    @property
    def counted_weights(self) -> list[nn.Parameter]:
        """Weights that no other rank counts as its own."""
        layers = self.layers if self.place.part == 0 else []
        return [weight for layer in layers for weight in layer.module.parameters()]

    @torch.no_grad()
    def add_products(self) -> None:
        """Compute the gradients of weights that were left since the last call."""
        for product in self._owed:
            product.add()
        self._owed.clear()

    def _enter_back(self, index: int, rows: Tensor | None) -> Tensor | None:
        kept = self._passes[index]
        kept.recall(self.layers, self.chunks[index])
        self.initial.enter_back(rows, kept.initial)
        return kept.gradient if rows is None else rows[0]

    def _enter(self, index: int, rows: Tensor | None) -> Sequence[FeatureRows]:
        data = self.chunks[index]
        kept = self._passes[index] = ChunkPass(self._masks.of_chunk(data))
        if rows is None:
            return data.features
        self.initial.enter(index, data, rows, kept.initial, self._masks, self._owed)
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
