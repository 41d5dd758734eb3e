"""The real orchestrator over actors that only wait: what a round costs at a size that is not there."""
