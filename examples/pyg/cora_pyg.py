"""Train a graph convolutional network on all of Cora at once, and print its accuracy."""

import torch
from torch_geometric.datasets import Planetoid
from torch_geometric.nn import GCN

dataset = Planetoid(root="data/Planetoid", name="Cora")
data = dataset[0]
x, edge_index, y, train, test = data.x, data.edge_index, data.y, data.train_mask, data.test_mask

model = GCN(dataset.num_features, 16, num_layers=2, out_channels=dataset.num_classes, dropout=0.5)
optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
for _ in range(200):
    optimizer.zero_grad()
    loss = torch.nn.functional.cross_entropy(model(x, edge_index)[train], y[train])
    loss.backward()
    optimizer.step()

model.eval()
with torch.no_grad():
    correct = model(x, edge_index).argmax(dim=1) == y
print(f"accuracy: train {correct[train].float().mean():.4f}, test {correct[test].float().mean():.4f}")
