"""Trained models on disk, and predicting with them."""
