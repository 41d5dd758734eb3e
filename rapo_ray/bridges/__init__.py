"""RAPO's judging and reward inside other trainers."""
