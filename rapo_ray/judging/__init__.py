"""Judging completions: taking them apart, counting sentences, and the judges themselves."""
