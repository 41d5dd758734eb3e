"""Models on disk: their sources, their chat format and their publication."""
