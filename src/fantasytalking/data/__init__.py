"""Training data: face tracks cached from videos, and the samples that a training step is made of."""
