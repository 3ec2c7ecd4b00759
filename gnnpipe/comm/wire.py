"""Wire formats: rows travel between stages as float32, or in fewer bytes as bf16 or int8.

fp32    float32 [streams, n, hidden]                         4 bytes a number
bf16    uint8 [streams, n, 2 * hidden]                       2 bytes a number
int8    uint8 [streams, n, hidden + 4]: steps, then scale    1 byte a number, 4 a row
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gnnpipe.config.run import WireFormat
from gnnpipe.schedule.volume import row_bytes

# The largest int8; a row's largest entry becomes this many steps of the row's scale.
_MOST = 127
# A float32 at the end of each int8 row.
_SCALE_BYTES = 4


@dataclass(frozen=True)
class Wire:
    """Encodes float32 rows ``[streams, n, hidden]`` as a message, and decodes it.

    int8 scales every row by its own largest entry: rows of nodes with many neighbours are of another size
    than those of nodes with few. Rows are rounded to the nearest step, but a positive entry never to 0: the
    backward pass reads from its sign whether a ReLU lets the gradient through (`Dropout.back`). Gradients are
    rounded at random, up or down, so that their mean is right: their errors would add up over layers and
    epochs.
    """

    format: WireFormat = "fp32"

    def message(self, shape: tuple[int, int, int]) -> tuple[tuple[int, ...], torch.dtype]:
        """Shape and number format of the message for rows of ``shape``."""
        if self.format == "fp32":
            return shape, torch.float32
        return (*shape[:2], row_bytes(shape[2], self.format)), torch.uint8

    def encode(self, rows: Tensor, noise: Tensor | None = None) -> Tensor:
        """The message for ``rows``.

        Args:
            rows: float32 ``[streams, n, hidden]``.
            noise: uint8 in the same shape, a random byte for each entry, to round int8 at random; None to
                round to the nearest.
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
            # floor(x + u) with u uniform in (0, 1) has the mean x
            steps.add_((noise.float() + 0.5) / 256).floor_()
        return torch.cat([steps.to(torch.int8).view(torch.uint8), scale.view(torch.uint8)], dim=-1)

    def decode(self, message: Tensor) -> Tensor:
        """The float32 rows ``[streams, n, hidden]`` of a message."""
        if self.format == "fp32":
            return message
        if self.format == "bf16":
            return message.view(torch.bfloat16).float()
        width = message.shape[-1] - _SCALE_BYTES
        # copied, as the view as float32 needs contiguous bytes
        scale = message[..., width:].clone(memory_format=torch.contiguous_format).view(torch.float32)
        return message[..., :width].view(torch.int8).float().mul_(scale)


AS_IT_IS = Wire()
