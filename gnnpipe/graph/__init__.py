"""The graph: loading, checking, cutting into chunks."""
