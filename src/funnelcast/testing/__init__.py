"""What users test their own models with: data with a known process."""
