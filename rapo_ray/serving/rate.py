"""The rate limit of callers: a token bucket for each key (pure except for the clock)."""

import time
from collections.abc import Callable


class RateLimit:
    """Limit of `burst` requests at once and `per_minute` requests after that."""

    def __init__(self, per_minute: float | None, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = None if per_minute is None else per_minute / 60.0
        self._burst = float(burst)
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}  # by holder: requests left, and the time of that count

    def wait(self, holder: str) -> float:
        """Take a request from the holder's bucket and return 0, or else the seconds until one is available."""
        if self._rate is None:
            return 0.0
        now = self._clock()
        left, then = self._buckets.get(holder, (self._burst, now))
        left = min(self._burst, left + (now - then) * self._rate)
        if left < 1.0:
            self._buckets[holder] = (left, now)
            return (1.0 - left) / self._rate
        self._buckets[holder] = (left - 1.0, now)
        return 0.0
