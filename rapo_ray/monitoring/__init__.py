"""What watches a run: series for Prometheus, sinks, and the state of a run's folder."""
