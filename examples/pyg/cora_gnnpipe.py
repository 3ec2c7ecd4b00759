"""Train a graph convolutional network on all of Cora at once, and print its accuracy."""

import gnnpipe
import torch
from torch_geometric.datasets import Planetoid

dataset = Planetoid(root="data/Planetoid", name="Cora")
data = dataset[0]
x, edge_index, y, train, test = data.x, data.edge_index, data.y, data.train_mask, data.test_mask

model = gnnpipe.train(data, model="gcn", layers=2, hidden=16, lr=0.01, weight_decay=5e-4, stages=2).to_pyg()

model.eval()
with torch.no_grad():
    correct = model(x, edge_index).argmax(dim=1) == y
print(f"accuracy: train {correct[train].float().mean():.4f}, test {correct[test].float().mean():.4f}")
