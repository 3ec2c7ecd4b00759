"""Settings of runs and commands, and their checks before anything is loaded."""
