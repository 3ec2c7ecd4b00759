"""What a trained model says of a graph: predictions of its nodes, and hidden rows of any layer."""
