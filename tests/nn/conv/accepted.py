"""Convolutions of torch_geometric that `Conv` runs, each with edges that it can be run on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch_geometric.nn import MLP
from torch_geometric.nn import conv as pyg

from gnnpipe.graph.prepare.normalize import Normalization
from gnnpipe.nn.conv.form import Form

ROWS, OUT, EDGE_DIM, NUM_TYPES = 8, 6, 3, 4
DEGREES = torch.tensor([5, 20, 30, 20, 10, 5])


@dataclass(frozen=True)
class Accepted:
    """A convolution of rows of `ROWS` columns."""

    make: Callable[[], nn.Module]
    form: Form
    edges: Normalization = "none"


ACCEPTED: dict[str, Accepted] = {
    "Simple": Accepted(pyg.SimpleConv, "pair"),
    "SAGE": Accepted(lambda: pyg.SAGEConv(ROWS, OUT), "pair"),
    "SAGE max, L2": Accepted(lambda: pyg.SAGEConv(ROWS, OUT, "max", normalize=True, project=True), "pair"),
    "Graph": Accepted(lambda: pyg.GraphConv(ROWS, OUT), "pair"),
    "ResGated": Accepted(lambda: pyg.ResGatedGraphConv(ROWS, OUT, edge_dim=EDGE_DIM), "pair"),
    "GAT, loops in the graph": Accepted(
        lambda: pyg.GATConv(ROWS, OUT, 2, add_self_loops=False, edge_dim=EDGE_DIM), "pair", "loops"
    ),
    "GATv2, residual": Accepted(
        lambda: pyg.GATv2Conv(ROWS, OUT, 2, add_self_loops=False, edge_dim=EDGE_DIM, residual=True), "pair"
    ),
    "Transformer": Accepted(lambda: pyg.TransformerConv(ROWS, OUT, 2, beta=True, edge_dim=EDGE_DIM), "pair"),
    "GIN": Accepted(lambda: pyg.GINConv(MLP([ROWS, 5, OUT], norm=None), train_eps=True), "pair"),
    "GINE": Accepted(lambda: pyg.GINEConv(nn.Linear(ROWS, OUT), edge_dim=EDGE_DIM), "pair"),
    "MF": Accepted(lambda: pyg.MFConv(ROWS, OUT, max_degree=4), "pair"),
    "RGCN": Accepted(lambda: pyg.RGCNConv(ROWS, OUT, NUM_TYPES), "pair"),
    "FastRGCN": Accepted(lambda: pyg.FastRGCNConv(ROWS, OUT, NUM_TYPES, num_bases=2), "pair"),
    "RGAT": Accepted(lambda: pyg.RGATConv(ROWS, OUT, NUM_TYPES, edge_dim=EDGE_DIM), "pair"),
    "GMM": Accepted(lambda: pyg.GMMConv(ROWS, OUT, EDGE_DIM, 2), "pair"),
    "NN": Accepted(lambda: pyg.NNConv(ROWS, OUT, nn.Linear(EDGE_DIM, ROWS * OUT)), "pair"),
    "CG": Accepted(lambda: pyg.CGConv(ROWS, EDGE_DIM), "pair"),
    "Edge": Accepted(lambda: pyg.EdgeConv(nn.Linear(2 * ROWS, OUT)), "pair"),
    "LE": Accepted(lambda: pyg.LEConv(ROWS, OUT), "pair"),
    "GEN": Accepted(
        lambda: pyg.GENConv(ROWS, OUT, learn_t=True, msg_norm=True, edge_dim=EDGE_DIM, norm="layer"), "pair"
    ),
    "GEN, power mean": Accepted(
        lambda: pyg.GENConv(ROWS, OUT, "powermean", learn_p=True, edge_dim=EDGE_DIM, norm="layer"), "pair"
    ),
    "WLContinuous": Accepted(pyg.WLConvContinuous, "pair"),
    "FiLM": Accepted(lambda: pyg.FiLMConv(ROWS, OUT, NUM_TYPES), "pair"),
    "General": Accepted(lambda: pyg.GeneralConv(ROWS, OUT, EDGE_DIM, attention=True), "pair"),
    "GCN": Accepted(lambda: pyg.GCNConv(ROWS, OUT, normalize=False), "square", "gcn"),
    "LG": Accepted(lambda: pyg.LGConv(normalize=False), "pair", "gcn"),
    "TAG": Accepted(lambda: pyg.TAGConv(ROWS, OUT, K=1, normalize=False), "square", "gcn"),
    "APPNP": Accepted(lambda: pyg.APPNP(1, 0.2, normalize=False), "square", "gcn"),
    "GatedGraph": Accepted(lambda: pyg.GatedGraphConv(ROWS, 1), "square"),
    "GAT": Accepted(lambda: pyg.GATConv(ROWS, OUT, 2, edge_dim=EDGE_DIM), "square"),
    "GATv2": Accepted(lambda: pyg.GATv2Conv(ROWS, OUT, 2, edge_dim=EDGE_DIM), "square"),
    "AGNN": Accepted(pyg.AGNNConv, "square"),
    "FeaSt": Accepted(lambda: pyg.FeaStConv(ROWS, OUT, 2), "square"),
    "PNA": Accepted(
        lambda: pyg.PNAConv(
            ROWS, OUT, ["mean", "max", "std"], ["identity", "amplification"], DEGREES, edge_dim=EDGE_DIM
        ),
        "square",
    ),
    "ClusterGCN": Accepted(lambda: pyg.ClusterGCNConv(ROWS, OUT, diag_lambda=0.3), "square"),
    "SuperGAT": Accepted(lambda: pyg.SuperGATConv(ROWS, OUT, 2), "square"),
    "PDN": Accepted(lambda: pyg.PDNConv(ROWS, OUT, EDGE_DIM, 4, normalize=False), "square", "gcn"),
    "AntiSymmetric": Accepted(lambda: pyg.AntiSymmetricConv(ROWS, pyg.SAGEConv(ROWS, ROWS)), "square"),
}
