"""Layers of any kind: what their author writes, the edges that they read, and how they run in training."""
