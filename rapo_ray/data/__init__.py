"""Prompts: published datasets, user files, recipes and the sampler."""
