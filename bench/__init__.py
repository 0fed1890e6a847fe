"""Measurements of speed; `scripts/bench` runs them."""
