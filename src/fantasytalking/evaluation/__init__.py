"""Measuring generated videos as the paper does: one file a metric, the protocol stored with each number."""
