"""Many models, one protocol, several seeds: a table that can be believed."""
