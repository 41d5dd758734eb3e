"""Names of the files that a policy writes into a checkpoint."""


def random_state_file(rank: int) -> str:
    """Name of the file with a rank's random-number state."""
    return f"random-{rank}.safetensors"
