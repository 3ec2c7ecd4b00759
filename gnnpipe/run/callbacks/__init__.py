"""A user's callbacks: the base class, those that come with gnnpipe, and how rank 0's records reach them."""
