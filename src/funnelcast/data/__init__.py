"""From raw logs to batches: vocabularies, encoder, prepared tables, loading."""
