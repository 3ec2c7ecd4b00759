"""Ranks: how they start, join and talk to each other. Only this floor talks to torch.distributed."""
