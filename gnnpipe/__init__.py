"""gnnpipe: train deep graph neural networks on one huge graph over several devices.

Nothing heavy is imported here, so that ``gnnpipe --help`` answers at once.
"""

__version__ = "0.1.0"
