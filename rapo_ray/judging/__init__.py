"""Judges: from a completion to its verdict, by rules, by a model on vLLM or by an HTTP endpoint."""
