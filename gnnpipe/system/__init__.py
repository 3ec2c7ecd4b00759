"""What the operating system gives and takes: cores, memory, signals, streams, the processes above."""
