"""Building blocks of models: embedding, banks, gates, attention, heads."""
