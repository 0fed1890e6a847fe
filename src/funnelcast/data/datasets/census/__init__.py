"""Census-Income (KDD)."""
