"""Names of the files that a policy leaves in a checkpoint."""


def random_state_file(rank: int) -> str:
    """A rank's random state."""
    return f"random-{rank}.safetensors"
