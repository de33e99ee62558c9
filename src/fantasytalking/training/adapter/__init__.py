"""Training what FantasyTalking adds to Wan at any width, and exporting it."""
