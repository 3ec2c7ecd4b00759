"""Readers of users' files: one module a format, and the names that arrays usually have."""
