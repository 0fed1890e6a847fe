"""Training: losses, optimizers, the trainer, meta-learning, stages, checkpoints."""
