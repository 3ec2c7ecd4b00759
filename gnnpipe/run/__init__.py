"""One run: its job, its training loop, its folder."""
