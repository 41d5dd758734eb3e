"""The HTML report of a run or an evaluation: one file that asks the network for nothing."""
