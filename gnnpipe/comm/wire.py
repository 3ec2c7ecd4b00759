"""How rows travel between stages: as they are, or in fewer bytes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gnnpipe.config.run import WireFormat
from gnnpipe.schedule.volume import row_bytes

_MOST = 127
_SCALE_BYTES = 4


@dataclass(frozen=True)
class Wire:
    """Encodes float32 rows ``[streams, n, hidden]`` as a message, and decodes it.

    int8 scales every row by its largest entry, as a node of many neighbours has rows of another size than a
    node of few. Rows are rounded to the nearest, but a positive entry never to 0: its sign tells the way back
    which gradients a ReLU lets through (`Dropout.back`). For gradients, whose errors add up over layers and
    epochs, rounding at random is right: it is so on average.
    """

    format: WireFormat = "fp32"

    def message(self, shape: tuple[int, int, int]) -> tuple[tuple[int, ...], torch.dtype]:
        """Shape and type of the message that rows of a shape become."""
        if self.format == "fp32":
            return shape, torch.float32
        return (*shape[:2], row_bytes(shape[2], self.format)), torch.uint8

    def encode(self, rows: Tensor, noise: Tensor | None = None) -> Tensor:
        """The message.

        Args:
            rows: ``[streams, n, hidden]``.
            noise: a random byte for each entry, uint8 in the same shape, to round at random; None to round to
                the nearest. Only int8 uses it.
        """
        if self.format == "fp32":
            return rows
        if self.format == "bf16":
            return rows.to(torch.bfloat16).view(torch.uint8)
        scale = rows.abs().amax(dim=-1, keepdim=True).div_(_MOST)
        steps = rows / scale.masked_fill(scale == 0, 1.0)
        if noise is None:
            steps = torch.where((steps > 0) & (steps < 1), 1.0, steps.round())
        else:
            steps.add_((noise.float() + 0.5) / 256).floor_()
        return torch.cat([steps.to(torch.int8).view(torch.uint8), scale.view(torch.uint8)], dim=-1)

    def decode(self, message: Tensor) -> Tensor:
        """Float32 rows ``[streams, n, hidden]``."""
        if self.format == "fp32":
            return message
        if self.format == "bf16":
            return message.view(torch.bfloat16).float()
        width = message.shape[-1] - _SCALE_BYTES
        scale = message[..., width:].clone(memory_format=torch.contiguous_format).view(torch.float32)
        return message[..., :width].view(torch.int8).float().mul_(scale)


AS_IT_IS = Wire()
