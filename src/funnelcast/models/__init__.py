"""Models: recipes that pick parts, one file each."""
