"""RAPO's judges and rewards for other trainers."""
