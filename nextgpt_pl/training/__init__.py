"""Training on Lightning: command line, run folders, strategies, callbacks, checkpoint files."""
