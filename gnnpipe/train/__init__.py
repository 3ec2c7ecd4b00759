"""The training loop and what it decides: staleness settings, optimiser, evaluation, records."""
