"""Errors, the configuration and the clock: what every other floor uses."""
