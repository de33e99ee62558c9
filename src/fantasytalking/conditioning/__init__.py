"""What the transformer is told besides noise and time: speech, identity, motion, text and image."""
