"""A torch_geometric convolution, or one written like those, as a layer: see `gnnpipe.nn.conv.layer`.

probe       widths, and whether it draws random numbers
call        what its forward is given
form        how it is called on a block of rows
sample      small random graphs
still       a copy that gives the same numbers whenever it is run
selftest    which form gives what the whole graph gives
reasons     why neither does, and what helps
blocktest   the same test for a `BlockLayer` of a user's own
"""

from gnnpipe.nn.conv.layer import Conv

__all__ = ["Conv"]
