"""Models of one's own: a function that yields factories of layers, found by its place and run as a stack."""
