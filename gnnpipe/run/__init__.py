"""One run: its session, its job, the training loop and evaluation."""
