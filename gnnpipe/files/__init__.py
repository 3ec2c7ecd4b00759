"""Files: the only modules that open a file of a user's, or write one."""
