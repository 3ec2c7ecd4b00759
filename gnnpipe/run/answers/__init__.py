"""Answers of a trained model about a graph: predictions of its nodes, and hidden rows of any layer."""
