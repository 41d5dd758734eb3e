"""Small statistics of the evidence (numpy, seeded)."""

from collections.abc import Sequence
from typing import TypedDict

RESAMPLES = 10_000
DRAWN_AT_ONCE = 2**21  # 16 bytes each: an index and the value there


class Interval(TypedDict):
    """A mean with its bootstrap interval; None where there was nothing to take it of."""

    mean: float | None
    ci95: list[float] | None


def paired_bootstrap(differences: Sequence[float], seed: int) -> Interval:
    """Mean of paired differences and its percentile bootstrap 95 % interval (Efron 1979); both None without a pair."""
    import numpy as np

    if not differences:
        return {"mean": None, "ci95": None}
    values = np.asarray(differences, dtype=np.float64)
    generator = np.random.default_rng(seed)
    means = np.empty(RESAMPLES)
    rows = max(1, DRAWN_AT_ONCE // len(values))
    for start in range(0, RESAMPLES, rows):
        part = means[start : start + rows]
        part[:] = values[generator.integers(0, len(values), size=(len(part), len(values)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return {"mean": float(values.mean()), "ci95": [float(low), float(high)]}
