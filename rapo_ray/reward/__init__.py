"""From verdicts to advantages (pure functions)."""
