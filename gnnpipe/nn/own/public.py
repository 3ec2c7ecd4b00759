"""All that `gnnpipe.nn` offers to models of one's own."""

from gnnpipe.nn.batch_norm import BatchNorm
from gnnpipe.nn.block import BlockLayer
from gnnpipe.nn.edges import BlockEdges
from gnnpipe.nn.layer import Drop, Layer
from gnnpipe.nn.layers.extras import Extras
from gnnpipe.nn.layers.gat import GatLayer
from gnnpipe.nn.layers.gatv2 import Gatv2Layer
from gnnpipe.nn.layers.gcn import GcnLayer
from gnnpipe.nn.layers.gin import GinLayer
from gnnpipe.nn.layers.jump import Jump
from gnnpipe.nn.layers.mesh import MeshLayer
from gnnpipe.nn.layers.sage import SageLayer
from gnnpipe.nn.layers.sage_max import SageMaxLayer
from gnnpipe.nn.own.rows import Rows

__all__ = [
    "BatchNorm", "BlockEdges", "BlockLayer", "Drop", "Extras", "GatLayer", "Gatv2Layer", "GcnLayer",
    "GinLayer", "Jump", "Layer", "MeshLayer", "Rows", "SageLayer", "SageMaxLayer",
]  # fmt: skip
