"""The policy update: batches, objectives and the DeepSpeed ranks."""
