"""A run's folder: its files, their types, who may have it, who writes it."""
