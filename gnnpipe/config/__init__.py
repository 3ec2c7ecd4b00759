"""Settings of runs and commands, checked before anything is loaded; no PyTorch."""
