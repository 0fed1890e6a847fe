"""Known data sets and the generator, a folder each."""
