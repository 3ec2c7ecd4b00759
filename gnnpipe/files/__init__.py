"""Reading what somebody else may have made, and writing what is ours: the only floor that opens files."""
