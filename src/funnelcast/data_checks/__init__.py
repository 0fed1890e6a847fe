"""The leakage doctor: what in a prepared table makes figures too good, or of no use."""
