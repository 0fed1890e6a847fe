"""A log of any shape, in Parquet or CSV, to a prepared table."""
