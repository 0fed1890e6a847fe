"""Running what an experiment file says."""
