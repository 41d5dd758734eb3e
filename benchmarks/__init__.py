"""Measurements: every figure is a command, and what is compared is measured in one run."""
