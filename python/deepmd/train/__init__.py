"""Training: loss, schedule, trainer, checkpoints."""
