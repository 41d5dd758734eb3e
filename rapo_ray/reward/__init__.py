"""Verdicts to advantages and preference pairs (pure functions)."""
