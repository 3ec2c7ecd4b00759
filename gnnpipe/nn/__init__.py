"""Layers, models, dropout, loss and metrics: plain single-process code."""
