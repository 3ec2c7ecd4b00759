"""What a run needs to go on where it was, on disk."""
