"""Lines, sentences and words of text in any script, and refusals in English (pure)."""
