"""Layers, models, dropout, loss and metrics: plain single-process code.

The names below are for models of one's own, see docs/models.md. They are imported at first use: this package
comes with ``import gnnpipe``, which imports nothing heavy.

>>> gnnpipe.nn.Rows(nn.Linear(64, 128), nn.ReLU())  # doctest: +SKIP
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gnnpipe.nn.batch_norm import BatchNorm
    from gnnpipe.nn.blocks.block import BlockLayer
    from gnnpipe.nn.blocks.edges import BlockEdges
    from gnnpipe.nn.conv import Conv
    from gnnpipe.nn.layer import Drop, Layer
    from gnnpipe.nn.layers.attention.gat import GatLayer
    from gnnpipe.nn.layers.attention.gatv2 import Gatv2Layer
    from gnnpipe.nn.layers.gcn import GcnLayer
    from gnnpipe.nn.layers.gin import GinLayer
    from gnnpipe.nn.layers.mesh import MeshLayer
    from gnnpipe.nn.layers.sage import SageLayer
    from gnnpipe.nn.layers.sage_max import SageMaxLayer
    from gnnpipe.nn.layers.wrappers.extras import Extras
    from gnnpipe.nn.layers.wrappers.jump import Jump
    from gnnpipe.nn.own.rows import Rows

__all__ = [
    "BatchNorm", "BlockEdges", "BlockLayer", "Conv", "Drop", "Extras", "GatLayer", "Gatv2Layer",
    "GcnLayer", "GinLayer", "Jump", "Layer", "MeshLayer", "Rows", "SageLayer", "SageMaxLayer",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    from gnnpipe.nn.own import public

    return getattr(public, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
