"""Training and validation of the lip-sync network."""
