"""Graph folders: one checked graph as files that are mapped into memory."""
