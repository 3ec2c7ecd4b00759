"""Records turned into tables and pictures."""
