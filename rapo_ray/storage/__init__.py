"""Files of runs and evaluations: layout, checkpoints, records, and the one reader of all of them."""
