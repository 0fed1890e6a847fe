"""What a trained model is measured against in every run: simple models that are fitted in seconds."""
