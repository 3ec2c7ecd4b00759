"""All that `gnnpipe.nn` offers to models of one's own."""

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
