"""Evidence: suites, attacks, rows that resume, metrics with intervals, and the gate."""
