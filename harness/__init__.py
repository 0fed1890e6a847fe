"""What tests, bench and proofs share: calls of the command line, their cost, and printed tables."""
