"""Layers, their stack, loss and metrics. Plain single-process code."""
