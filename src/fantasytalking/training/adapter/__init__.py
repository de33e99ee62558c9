"""Training and export of the parts that FantasyTalking adds to Wan, at any width."""
