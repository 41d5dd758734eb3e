"""Small statistics of the evidence (seeded)."""

import math
from collections.abc import Sequence
from typing import TypedDict

RESAMPLES = 10_000
DRAWN_AT_ONCE = 2**21  # 16 bytes each: an index and the value there
Z95 = 1.959963984540054  # two-sided 95 % of the normal distribution


class Interval(TypedDict):
    """A mean with its 95 % interval; None where there was nothing to take it of."""

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


def wilson_interval(successes: int, n: int) -> Interval:
    """A share with its Wilson score 95 % interval (Wilson 1927); both None without a trial."""
    if n == 0:
        return {"mean": None, "ci95": None}
    return {"mean": successes / n, "ci95": list(wilson_bounds(successes / n, n))}


def wilson_bounds(share: float, n: int) -> tuple[float, float]:
    """The bounds of the Wilson 95 % interval of a share among n trials."""
    centre = share + Z95**2 / (2 * n)
    spread = Z95 * math.sqrt(share * (1 - share) / n + Z95**2 / (4 * n**2))
    scale = 1 + Z95**2 / n
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)
