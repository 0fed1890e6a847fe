"""Probabilities that bids can trust: maps of a model's log odds that rows decide which training did not use."""
