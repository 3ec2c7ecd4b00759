"""Running a convolution with jumping knowledge: its own runner, with the joined rows led around it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from gnnpipe.nn.blocks.edges import Edges
from gnnpipe.nn.features import FeatureRows
from gnnpipe.nn.layer import Given
from gnnpipe.nn.layers.wrappers.jump import Jump
from gnnpipe.nn.layers.wrappers.wrapping import GathersInside, SavedAround
from gnnpipe.nn.running import AnyRunner, Gathers, Kept, Pushes, Runner, Saved
from gnnpipe.ops.mix import Mix


@dataclass
class SavedJump(SavedAround):
    """The convolution's, and what the join needs."""

    joined: Tensor | None = field(init=False)
    """Joined rows that came in; until the join."""
    counts: Tensor | None = field(init=False)
    """bool ``[n, hidden]``: where a gradient of the joined rows reaches those of the convolution, through the
    maximum and its ReLU; None for everywhere."""
    passed: Tensor | None = field(init=False)
    """Gradient of the joined rows that came in."""


class JumpRunner(Runner[Jump, SavedJump]):
    """Runs a convolution by its own runner, and joins.

    With g the gradient of the hidden rows that are passed on, and k that of the joined ones, the convolution
    gets ``g + k`` and the joined rows that came in get k; with the maximum each only where it was larger.
    The layer behind does not mask k by the convolution's ReLU, as it does g, so that it is masked here.

    Args:
        layer: the layer.
        conv: the runner of its convolution.
    """

    saved = SavedJump

    def __init__(self, layer: Jump, conv: AnyRunner) -> None:
        super().__init__(layer)
        self.conv = conv
        self.only_drops, self.prepares = conv.only_drops, conv.prepares

    def prepare(self) -> None:
        self.conv.prepare()

    def mix(self, h0: Given) -> Mix | None:
        return self.conv.mix(h0)

    def forward_message(self, saved: SavedJump, h: FeatureRows, x: Given) -> None:
        saved.conv = self.conv.saved(saved.drop, saved.products)
        hidden, saved.joined = self.layer.split(h) if isinstance(h, Tensor) else (h, None)
        self.conv.forward_message(saved.conv, hidden, x)
        saved.conv.drop = saved.conv.drop.without_bits()

    def forward_update(self, saved: SavedJump, z: Given, h0: Given, out: Tensor) -> None:
        rows = self._room(out)
        self.conv.forward_update(saved.conv, z, h0, rows)
        self._join(saved, rows, out)

    def _room(self, out: Tensor) -> Tensor:
        return out.new_empty(len(out), self.layer.conv.out_features)

    def _join(self, saved: SavedJump, rows: Tensor, out: Tensor) -> None:
        layer = self.layer
        saved.counts = None
        if layer.join == "max" and saved.joined is not None:
            saved.counts = rows > saved.joined
        elif layer.relu:
            saved.counts = rows > 0
        out.copy_(layer.with_joined(rows, layer.joined_with(saved.joined, rows)))
        saved.joined = None

    def _split_gradient(self, saved: SavedJump, gradient: Tensor) -> Tensor:
        """The gradient of the convolution's rows; that of the joined rows that came in is saved."""
        layer, columns = self.layer, self.layer.conv.out_features
        of_joined = gradient[:, -layer.out_joined :]
        of_rows = of_joined[:, -columns:]  # with cat its own columns, which are the last ones
        if saved.counts is not None:
            of_rows = of_rows * saved.counts
        saved.passed = None
        if layer.joined:
            passed = of_joined[:, : layer.joined]
            kept = layer.join == "max" and saved.counts is not None
            saved.passed = passed * ~saved.counts if kept and saved.counts is not None else passed.clone()
        saved.counts = None
        return of_rows.contiguous() if layer.last else of_rows + gradient[:, :columns]

    def backward_update(
        self, saved: SavedJump, gradient: Tensor, z_gradient: Given, h0_gradient: Given
    ) -> None:
        of_rows = self._split_gradient(saved, gradient)
        self.conv.backward_update(saved.conv, of_rows, z_gradient, h0_gradient)

    def backward_message(self, saved: SavedJump, x_gradient: Given, h_gradient: Given) -> None:
        if h_gradient is None or saved.passed is None:
            self.conv.backward_message(saved.conv, x_gradient, h_gradient)
            return
        of_hidden, of_joined = h_gradient.split([self.layer.conv.in_features, self.layer.joined], dim=1)
        own = torch.empty_like(of_hidden, memory_format=torch.contiguous_format)
        self.conv.backward_message(saved.conv, x_gradient, own)
        of_hidden.copy_(own)
        of_joined.copy_(saved.passed)

    @property
    def returns_gradient(self) -> bool:
        return self.conv.returns_gradient

    @property
    def kept(self) -> Kept:
        """The convolution's; the joined rows' gradient, and a byte an entry for where it goes."""
        kept, columns = self.conv.kept, self.layer.conv.out_features
        return replace(
            kept,
            saved=kept.saved + columns // 4,
            carried=kept.carried + self.layer.joined,
            held=kept.held + self.layer.joined + columns,
        )


class JumpGathers(GathersInside[SavedJump], JumpRunner):
    """The same around a runner that gathers."""


class JumpPushes(JumpRunner, Pushes[SavedJump]):
    """The same around a runner that pushes."""

    def __init__(self, layer: Jump, conv: AnyRunner, pushes: Pushes[Saved]) -> None:
        super().__init__(layer, conv)
        self._pushes = pushes

    def combine(self, saved: SavedJump, edges: Edges, table: Tensor, out: Tensor) -> None:
        rows = self._room(out)
        self._pushes.combine(saved.conv, edges, table, rows)
        self._join(saved, rows, out)

    def push(
        self, saved: SavedJump, edges: Edges, table: Tensor, gradient: Tensor
    ) -> tuple[Tensor | None, Tensor | None]:
        of_rows = self._split_gradient(saved, gradient)
        return self._pushes.push(saved.conv, edges, table, of_rows)


def jump_runner(layer: Jump, conv: AnyRunner) -> JumpRunner:
    """The runner of a layer around that of its convolution."""
    if isinstance(conv, Gathers):
        runner = JumpGathers(layer, conv)
        runner.set_inner(conv)
        return runner
    return JumpPushes(layer, conv, conv) if isinstance(conv, Pushes) else JumpRunner(layer, conv)
