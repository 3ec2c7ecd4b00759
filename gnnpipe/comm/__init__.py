"""Ranks: how they start, join and talk to each other, by torch.distributed."""
