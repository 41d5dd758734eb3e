"""The update: batches, objective, DeepSpeed."""
