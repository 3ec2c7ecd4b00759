"""Models of one's own, as settings name them: places of code, options, and which code is trusted."""
