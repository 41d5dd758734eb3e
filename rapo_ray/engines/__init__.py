"""Rollout and judge engines, and weight transfer to them."""
