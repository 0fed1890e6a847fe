"""Speed and the long proofs; `scripts/bench` and `scripts/proof` run them."""
