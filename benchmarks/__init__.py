"""Benchmarks: every published figure is a command, and figures that are compared come from the same run."""
