"""One epoch on one rank: stages, their layers and tables, chunk by chunk."""
