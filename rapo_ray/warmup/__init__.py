"""Stage 1: the supervised warm-up (SFT) that teaches the format."""
