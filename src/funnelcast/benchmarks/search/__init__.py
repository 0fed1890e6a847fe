"""Looking for settings: the same budget for every model, on dev rows alone."""
