"""Small statistics of the evidence (seeded)."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

RESAMPLES = 10_000
RESAMPLED_AT_ONCE = 2**21  # 16 bytes each: an index and the value there
Z95 = 1.959963984540054  # two-sided 95 % of the normal distribution

Bounds = tuple[float, float]  # of a 95 % interval


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its 95 % interval; both None where there was nothing to compute them from."""

    mean: float | None = None
    ci95: Bounds | None = None


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of the values that are not None; None without any."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def excludes_zero(ci95: Bounds | None) -> bool:
    """True where an interval lies on one side of zero."""
    return ci95 is not None and (ci95[0] > 0 or ci95[1] < 0)


def paired_bootstrap(differences: Sequence[float], seed: int) -> Interval:
    """Mean of paired differences and its percentile bootstrap 95 % interval (Efron 1979); both None without a pair."""
    import numpy as np

    if not differences:
        return Interval()
    values = np.asarray(differences, dtype=np.float64)
    generator = np.random.default_rng(seed)
    means = np.empty(RESAMPLES)
    rows = max(1, RESAMPLED_AT_ONCE // len(values))
    for start in range(0, RESAMPLES, rows):
        part = means[start : start + rows]
        part[:] = values[generator.integers(0, len(values), size=(len(part), len(values)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(values.mean()), (float(low), float(high)))


def wilson_interval(successes: float, n: int) -> Interval:
    """A share with its Wilson score 95 % interval (Wilson 1927); both None without a trial."""
    return Interval(successes / n, wilson_bounds(successes / n, n)) if n else Interval()


def wilson_bounds(share: float, n: int, z: float = Z95) -> Bounds:
    """Bounds of the Wilson interval of a share among n trials, of 95 % unless told."""
    centre = share + z**2 / (2 * n)
    half_width = z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    scale = 1 + z**2 / n
    return max(0.0, (centre - half_width) / scale), min(1.0, (centre + half_width) / scale)


def share_change(before: float, n_before: int, after: float, n_after: int, z: float = Z95) -> Bounds:
    """Bounds of the change between two independent shares (Newcombe 1998, method 10), of 95 % unless told."""
    (low_before, high_before), (low_after, high_after) = (
        wilson_bounds(before, n_before, z),
        wilson_bounds(after, n_after, z),
    )
    change = after - before
    return (
        change - math.hypot(after - low_after, high_before - before),
        change + math.hypot(high_after - after, before - low_before),
    )
