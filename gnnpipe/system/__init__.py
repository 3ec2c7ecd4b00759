"""The operating system: cores, memory, signals, streams, parent processes."""
