"""Prompts: published datasets, user files, recipes, the contamination guard and the sampler."""
