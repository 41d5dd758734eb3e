"""Stage 1: supervised warm-up that teaches the format."""
