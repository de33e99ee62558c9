"""The training loop and all it needs, whatever is trained: configuration, engine, checkpoints, run folder, monitoring."""
