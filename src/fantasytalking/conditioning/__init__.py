"""Conditions of the transformer: speech, identity, motion, text and image."""
