"""Boosted trees: the recipe, what trees read, how they are fitted, and how they are stacked with a network."""
