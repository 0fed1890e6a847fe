"""What an engineer asks of a trained model next: where it is calibrated, what its parts do, what fights what."""
