"""A generation from its options to the written video: request, profile, memory plan, loaded model."""
