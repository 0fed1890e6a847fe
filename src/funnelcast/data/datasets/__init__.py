"""Known data sets and the generator, one file each."""
