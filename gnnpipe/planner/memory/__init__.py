"""Peak memory of a rank, before it runs: its shape from the plan, the bytes from the shape."""
