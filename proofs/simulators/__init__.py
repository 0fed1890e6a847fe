"""Data-generating processes whose probabilities are known, for proofs and tests."""
