"""Training: losses, optimizers, the trainer, stages, checkpoints."""
