"""Cutting the graph into parts and chunks, and the rows that they read of each other."""
