"""Reading what others may have made, writing what is ours: nobody else does."""
