"""The video diffusion transformer: Wan with speech, identity and motion."""
