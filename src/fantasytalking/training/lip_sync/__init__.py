"""Training the lip-sync network, and what is measured with it."""
