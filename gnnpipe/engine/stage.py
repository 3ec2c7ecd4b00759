"""A stage: consecutive layers, their tables, and one chunk forward or backward through them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

import torch
from torch import Tensor, nn

from gnnpipe.comm.clock import Clock
from gnnpipe.comm.groups import Links
from gnnpipe.comm.halo import Halo, HaloRoutes, routes
from gnnpipe.comm.place import Place
from gnnpipe.comm.weights import WeightSums, sum_small
from gnnpipe.config.run import LossConfig
from gnnpipe.engine.batch_norms import BatchNorms, tile_sizes
from gnnpipe.engine.chunks import ChunkData, Tile, TileSizes, cut, cut_labels
from gnnpipe.engine.initial_rows import initial_rows_of
from gnnpipe.engine.layers.builder import LayerBuilder
from gnnpipe.engine.layers.layer import LayerPass, StageLayer
from gnnpipe.engine.layers.saved import ChunkPass
from gnnpipe.engine.masks import DropoutSettings, Masks
from gnnpipe.engine.tables import GradientTable, TableSettings, fit_weights
from gnnpipe.graph.prepare.prepared import PreparedGraph
from gnnpipe.nn.dropout import keep_all
from gnnpipe.nn.features import FeatureRows
from gnnpipe.nn.layer import Drop
from gnnpipe.nn.loss import Loss
from gnnpipe.nn.models import ModelSpec, build_stack
from gnnpipe.nn.runners import pushes
from gnnpipe.nn.running import WeightProduct
from gnnpipe.schedule.actions import Action, Kind
from gnnpipe.schedule.plan import Plan


class Stage:
    """The layers of one place in the plan, for one part of the graph.

    An action says which chunk each layer puts and takes; see `Action` for a picture. Rows enter and leave as
    one tensor ``[streams, n, hidden]``: the hidden rows and, where they travel, the initial rows.

    Args:
        place: stage and part of this rank.
        plan: says which layers run on which stage.
        spec: the model.
        graph: the prepared graph.
        settings: what the tables keep.
        dropout: what the masks depend on.
        device: device of weights, tables and chunks.
        links: connections to the other ranks.
        tiles: how chunks are cut into tiles; by default what suits the device.
        loss: what is minimised.
        trains: whether it is to be trained. One that is not can sweep, and takes no memory for tables.
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
        loss: LossConfig | None = None,
        *,
        trains: bool = True,
    ) -> None:
        self.place, self.device = place, device
        self._settings, self._links = settings, links
        self.loss_settings, facts = loss or LossConfig(), graph.facts
        truth = graph.labels, graph.masks["train"]
        self.loss = Loss.of(self.loss_settings, facts.task, *truth, facts.num_classes).on(device)
        self.num_rows = facts.part_nodes[place.part]
        self.halo = Halo(links, Clock(device), place)
        both = (graph.halo_forward, graph.halo_backward)
        self.routes = HaloRoutes(*(routes(halo, graph.ranges, place.part, device) for halo in both))
        initial_rows = initial_rows_of(spec, plan)
        features = place.is_first or initial_rows.on_every_stage
        stack = build_stack(spec)
        own = [layer for layer in stack if plan.stage_of(layer.convolution) == place.stage]
        tiles = tile_sizes(own, plan.num_chunks, tiles or TileSizes.on(device, pushes=pushes(stack)))
        self.chunks = self._cut(graph, tiles, features=features)
        self.labels = cut_labels(graph, place, device)
        builder = LayerBuilder(
            stack, self.num_rows, settings, self.halo, self.routes, plan.lookahead, device, trains
        )
        self.layers = [builder.build(layer) for layer in own]
        # of each layer, the seams in front of it and behind it; a layer that aggregates nothing has the same
        # chunk on both sides, so that it has but one
        self._seams = list(pairwise(accumulate((layer.rows is not None for layer in self.layers), initial=0)))
        self.initial = initial_rows(self.layers, lambda: builder.build(stack[0]), spec.hidden)
        names = {layer.spec.name.replace(".", "_"): layer.module for layer in self.held_layers}
        self.modules = nn.ModuleDict(names)
        self._norms = BatchNorms(self.modules, plan.num_chunks, plan.num_parts, links)
        self._sums, self._shared_sums = self._weight_sums(plan.num_ranks)
        columns = spec.hidden // spec.options.groups
        self._masks = Masks(dropout, [layer.spec.number for layer in self.layers], columns, device)
        # with one chunk the whole pass would be made again at once, which saves no memory
        self._recomputes = plan.recompute and plan.num_chunks > 1
        self._passes: dict[int, ChunkPass] = {}
        self._owed: list[WeightProduct] = []
        self._order: list[int] = []

    def _cut(self, graph: PreparedGraph, tiles: TileSizes, *, features: bool) -> list[ChunkData]:
        # Rows that read the halo get tiles of their own where the halo arrives while others are computed. It
        # doesn't where it is stale (it was there before), nor with lookahead (`put` waits for it).
        overlaps = not (self._settings.stale_halo or self._settings.waits)
        arriving = self.routes if overlaps else self.routes.nowhere
        return cut(graph, self.place, arriving, self.device, tiles, features=features)

    def _weight_sums(self, num_ranks: int) -> tuple[WeightSums, WeightSums]:
        """Sums of gradients: of the stage's own weights over its parts, of shared ones over all ranks."""
        shared, links = self.initial.shared, self._links
        weights = [[] if layer in shared else list(layer.module.parameters()) for layer in self.layers]
        shared_weights = [weight for layer in shared for weight in layer.module.parameters()]
        return (
            WeightSums(weights, self.place.num_parts, links.weights, links),
            WeightSums([shared_weights], num_ranks, links.shared, links),
        )

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

        It is unless rows travel in the middle of it, the weight of a table is fitted, or a layer aggregates
        in a way of its own, which nobody has tried."""
        linear = all(layer.module.is_linear and not layer.reverts for layer in self.layers)
        return linear and self.place.num_parts == 1 and not (self._settings.waits or self._settings.fitted)

    def entering(self, action: Action) -> int:
        """Number of the chunk that enters with an action in which one does."""
        return self._order[action.position]

    def kept_of(self, index: int) -> ChunkPass:
        """The saved activations of a chunk that has run forward and not backward."""
        return self._passes[index]

    def begin_epoch(self, epoch: int, order: list[int]) -> None:
        """Turn last epoch's rows into history and choose the epoch's dropout masks.

        Args:
            epoch: number of the epoch.
            order: number of the chunk at each position.
        """
        self._masks.begin_epoch(epoch)
        self._norms.begin_epoch()
        self._order = order
        if self._settings.fitted:
            fit_weights(self._gradient_tables)
        for layer in self.held_layers:
            layer.begin_epoch(epoch)

    @property
    def prepares(self) -> bool:
        """Whether `prepare` has anything to do."""
        return any(layer.runner.prepares for layer in self.held_layers)

    def prepare(self) -> None:
        """Compute what depends on the weights alone, once an epoch, after `begin_epoch`."""
        for layer in self.held_layers:
            layer.runner.prepare()

    def finish_epoch(self) -> None:
        """Wait until gradients of weights that several ranks hold are summed over those ranks."""
        self._shared_sums.complete(0)
        self._norms.finish_epoch()
        self._sums.finish()
        self._shared_sums.finish()
        # a fitted weight follows from inner products over all rows of the graph, not over a part's
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

    def shape(self, index: int, kind: Kind = "F") -> tuple[int, int, int]:
        """Shape of what comes in of a chunk: ``[streams, n, width]``.

        Args:
            index: number of the chunk.
            kind: F for rows, from the stage before; B for gradients, from the stage behind.
        """
        width = self.in_features if kind == "F" else self.layers[-1].module.out_features
        return self.initial.num_streams, self.chunks[index].chunk.num_nodes, width

    @property
    def in_features(self) -> int:
        """Columns of the rows that come in."""
        return self.layers[0].module.in_features

    # Forward: each layer puts the chunk at the seam in front of it and takes the one at the seam behind it.
    #
    #     lookahead 1   c2 enters | layer 0 puts c2, takes c1 | layer 1 puts c1, takes c0 | c0 leaves
    #     lookahead 0   c2 enters | layer 0 puts c2, takes c2 | layer 1 puts c2, takes c2 | c2 leaves
    #
    # The rows that a layer's take returns are put by the next layer in the same action, so that no rows wait
    # between two layers: `h` holds those at hand, of one chunk after the other.

    @torch.no_grad()
    def forward(self, action: Action, rows: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """Admit the chunk that enters, and bring chunks through the layers that take one.

        Args:
            action: says which chunk is where.
            rows: rows from the stage before; None on the first, which reads features, and where none enters.

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
        assert out is not None  # the last layer has just taken the chunk that leaves
        return self._leave(self._order[action.leaves], out)

    def _enter(self, index: int, rows: Tensor | None) -> Sequence[FeatureRows]:
        """Begin a chunk's pass; return its input rows, tile by tile."""
        data = self.chunks[index]
        kept = self._passes[index] = ChunkPass(self._masks.of_chunk(data))
        if rows is None:
            return data.features
        self.initial.enter(index, data, rows, kept.initial, self._masks, self._owed)
        return data.split(rows[0])

    def _put(self, layer: StageLayer, index: int, h: Sequence[FeatureRows]) -> None:
        data, kept = self.chunks[index], self._passes[index]
        drops = self._masks.of_layer(layer.spec.number, data, kept.masks, layer.module.drop_rate)
        kept.layers.append(layer.put(index, data, h, drops, self._owed))
        if self._recomputes:
            kept.remember(layer, h)
        if len(kept.layers) == len(self.layers):
            kept.masks = None  # every layer has had its random bytes

    def _take(self, layer: StageLayer, index: int) -> Tensor:
        kept = self._passes[index]
        h = layer.take(index, self.chunks[index], kept.layers[-1], kept.initial.rows)
        if self.initial.start_at(layer):
            kept.initial.rows = h
        if self._recomputes:
            layer.forget(kept.layers[-1])
        if layer.reverts:
            kept.forget_all(len(kept.layers) - 1, h)
        return h

    def _leave(self, index: int, h: Tensor) -> tuple[Tensor, Tensor | None]:
        kept = self._passes[index]
        if not self.place.is_last:
            return self.initial.packed(h, kept.initial.rows), None
        truth = self.labels[index]
        # the gradient of the loss is at hand as soon as the logits are, and waits for the chunk's way back
        loss, kept.gradient = self.loss.of_chunk(h, truth.labels, truth.train_rows)
        return h, loss

    # Backward: the same seams from the last layer to the first. A layer puts the chunk at the seam behind it
    # (its gradient comes in there) and takes the one at the seam in front. Initial rows were read by every
    # layer, so their gradient adds up on the way, and joins that of the hidden rows at the output of layer 0,
    # which made both:
    #
    #     hidden rows    loss -> layer 3 --> layer 2 --> layer 1 --(+)-> layer 0
    #     initial rows                \___________\___________\____/

    @torch.no_grad()
    def backward(self, action: Action, rows: Tensor | None) -> Tensor | None:
        """Admit the gradient of the chunk that enters, and bring chunks back through the layers.

        Gradients of weights that others don't wait for are left to `add_products`.

        Args:
            action: says which chunk is where.
            rows: gradients from the stage behind; None on the last, which has the loss's, and where nothing
                enters.

        Returns:
            gradients for the stage before, of the chunk that leaves; None on the first, or where none leaves.
        """
        self._norms.all_forward()
        gradient: Tensor | None = None
        if action.enters is not None:
            gradient = self._enter_back(self._order[action.enters], rows)
        for place in reversed(range(len(self.layers))):
            front, behind = self._seams[place]
            put, taken = action.seams[behind], action.seams[front]
            if put is not None:
                assert gradient is not None  # it has entered, or the layer behind has just taken it
                self._put_back(place, self._order[put], gradient)
            if taken is not None:
                gradient = self._take_back(place, taken)
        return None if action.leaves is None else self._leave_back(self._order[action.leaves], gradient)

    def _enter_back(self, index: int, rows: Tensor | None) -> Tensor | None:
        """Begin a chunk's way back; return the gradient of its output rows."""
        kept = self._passes[index]
        kept.recall(self.layers, self.chunks[index])
        self.initial.enter_back(rows, kept.initial)
        return kept.gradient if rows is None else rows[0]

    def _put_back(self, place: int, index: int, gradient: Tensor) -> None:
        layer, kept = self.layers[place], self._passes[index]
        if layer.reverts:
            self._revert(place, index)
        if self.initial.start_at(layer):
            gradient.add_(kept.initial.gradient)
        layer.put_back(index, self.chunks[index], kept.layers[place], gradient, kept.initial.gradient)

    def _revert(self, place: int, index: int) -> None:
        """Make what a layer has saved again, and the output rows of the layer in front."""
        layer, kept, data = self.layers[place], self._passes[index], self.chunks[index]
        drops = self._masks.of_layer(layer.spec.number, data, None, layer.module.drop_rate)
        out = kept.reverting.pop(place)
        kept.layers[place], h = layer.revert(index, data, out, drops, self._owed)
        if place and self.layers[place - 1].reverts:
            kept.reverting[place - 1] = h

    def _take_back(self, place: int, position: int) -> Tensor | None:
        index = self._order[position]
        done = self._passes[index].layers[place]
        gradient = self.layers[place].take_back(index, self.chunks[index], done)
        # The last chunk on its way back is the first one in the order: behind it a layer's gradients are
        # complete, and their sum over the parts travels while the layers in front compute.
        summed = position == 0 and self.place.num_parts > 1
        reverts = self.layers[place].reverts
        # The stage before waits for this gradient, so products of weights come later; no stage is before the
        # first one. A layer that reverts shares its table with the next one, so its products are due now.
        if summed or self.place.is_first or reverts:
            self.add_products()
        if reverts:
            self._passes[index].layers[place] = LayerPass([])
        if summed:
            self._sums.complete(place)
        return gradient

    def _leave_back(self, index: int, gradient: Tensor | None) -> Tensor | None:
        """End a chunk's pass; return what goes to the stage before."""
        kept = self._passes.pop(index).initial
        self.initial.leave_back(index, self.chunks[index], kept)
        return None if gradient is None else self.initial.packed(gradient, kept.gradient)

    def noise(self, position: int) -> Tensor:
        """Random bytes to round the gradient of the chunk at ``position`` with, which leaves for the stage
        before; see `Masks.noise`."""
        data = self.chunks[self._order[position]]
        return self._masks.noise(data, self.initial.num_streams, self.in_features)

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

    @property
    def exchanges_history(self) -> bool:
        """Whether history has halo rows; a stale halo is kept elsewhere."""
        return not self._settings.stale_halo

    def history_drop(self, layer: StageLayer, tile: Tile, epoch: int) -> Drop:
        """The dropout of a layer's historical rows as ``epoch`` is to read them."""
        if self._settings.clean:
            return keep_all
        return self._masks.of_tile(layer.spec.number, tile, epoch, layer.module.drop_rate)
