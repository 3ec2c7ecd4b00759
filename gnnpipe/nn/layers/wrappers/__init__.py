"""Wrappers around a convolution: norm, skip and activation, or jumping knowledge."""
