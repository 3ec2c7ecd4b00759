"""Layers that attend to their neighbours: GAT and GATv2."""
