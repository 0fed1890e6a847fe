"""Everything a user declares about the data: features, funnel, keys, splits."""
