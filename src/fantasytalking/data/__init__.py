"""Training data: catalogues, face tracks cached from videos, prepared sets, and the samples of a training step."""
