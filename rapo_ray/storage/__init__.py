"""What a run leaves on disk: its folder, checkpoints, records, and the one reader of all of it."""
