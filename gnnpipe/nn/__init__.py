"""Layers, their models, dropout, loss and metrics. Plain single-process code."""
