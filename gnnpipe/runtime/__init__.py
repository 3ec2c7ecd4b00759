"""Ranks at work: messages, tables, stages, the engine. Only this floor talks to torch.distributed."""
