"""Small statistics of the evidence (numpy, seeded)."""

from collections.abc import Sequence
from typing import TypedDict

RESAMPLES = 10_000


class Interval(TypedDict):
    """A mean with its bootstrap interval."""

    mean: float
    ci95: list[float]


def paired_bootstrap(differences: Sequence[float], seed: int) -> Interval:
    """Mean of paired differences with a percentile bootstrap 95 % interval (Efron 1979); raises ValueError if empty."""
    import numpy as np

    if not differences:
        raise ValueError("no pair to compare")
    values = np.asarray(differences, dtype=np.float64)
    draws = np.random.default_rng(seed).integers(0, len(values), size=(RESAMPLES, len(values)))
    low, high = np.percentile(values[draws].mean(axis=1), [2.5, 97.5])
    return {"mean": float(values.mean()), "ci95": [float(low), float(high)]}
