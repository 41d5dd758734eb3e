"""Whole jobs: a run, an evaluation, an intervention study."""
