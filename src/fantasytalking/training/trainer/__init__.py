"""The training loop, independent of the model that is trained: configuration, engine, checkpoints, run folder, monitoring."""
