"""Models on disk: where they come from, how they speak, how they are published."""
