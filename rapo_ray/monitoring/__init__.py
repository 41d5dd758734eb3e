"""Monitoring of a run: series for Prometheus, sinks, and the state of its folder."""
