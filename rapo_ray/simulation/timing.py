"""Work that shares a card, in simulated seconds (pure): an engine's decoding and a judge's judgements.

Each tenant of a card knows when, alone, it would next finish something; those that work share the card's time equally.
"""

import heapq
import math
from collections import deque
from typing import Generic, Protocol, TypeVar

from rapo_ray.simulation.profile import PROMPT_TOKENS, Profile

Tag = TypeVar("Tag")


class Tenant(Protocol):
    """Work on a card."""

    busy: float  # seconds in which there was any

    def alone(self) -> float | None:
        """Seconds of the card until something finishes; None where there is nothing to do."""
        ...

    def work(self, seconds: float) -> None:
        """Use so many seconds of the card, `alone()` at most."""
        ...


class SharedCard:
    """A card whose time is shared equally by the tenants that have work."""

    def __init__(self, now: float) -> None:
        self.tenants: list[Tenant] = []
        self.busy = 0.0  # seconds in which any tenant worked
        self._at = now

    def advance(self, now: float) -> None:
        """Let the tenants work until `now`."""
        while working := self._working():
            shortest = min(seconds for _, seconds in working)
            finish = self._at + len(working) * shortest
            if finish > now and self._at >= now:
                break
            until = min(finish, now)
            used = shortest if finish <= now else (now - self._at) / len(working)
            for tenant, _ in working:
                tenant.work(used)
                tenant.busy += until - self._at
            self.busy += until - self._at
            self._at = until
        self._at = max(self._at, now)

    def next_finish(self) -> float | None:
        """The time at which something finishes if no more work comes; None where no tenant has any."""
        working = self._working()
        return self._at + len(working) * min(seconds for _, seconds in working) if working else None

    def _working(self) -> list[tuple[Tenant, float]]:
        return [(tenant, seconds) for tenant in self.tenants if (seconds := tenant.alone()) is not None]


class Decoding(Generic[Tag]):
    """An engine's sequences: all that run advance by a token a step, and a step takes longer the more there are."""

    def __init__(self, profile: Profile, most: int) -> None:
        self.busy = 0.0
        self.finished: list[Tag] = []
        self._profile = profile
        self.most = min(most, profile.running_sequences or most)
        self._waiting: deque[tuple[int, Tag]] = deque()
        self._running: list[tuple[float, int, int, Tag]] = []  # last step, order of arrival, tokens
        self._arrived = 0
        self._steps = 0.0  # steps made
        self._cached = 0.0  # tokens in the cache
        self._prompts = 0.0  # seconds of prompts that are still to be read

    @property
    def running(self) -> int:
        """Sequences that it runs."""
        return len(self._running)

    def add(self, tokens: int, tag: Tag) -> None:
        """Sample a completion of so many tokens; it waits for a place in the cache."""
        self._waiting.append((tokens, tag))
        self._admit()

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self.most:
            tokens, tag = self._waiting.popleft()
            heapq.heappush(self._running, (self._steps + tokens, self._arrived, tokens, tag))
            self._arrived += 1
            self._cached += PROMPT_TOKENS
            self._prompts += self._profile.prompt_seconds

    def alone(self) -> float | None:
        """Seconds of the card until the next completion is whole."""
        return self._prompts + self._duration(self._left) if self._running else None

    @property
    def _left(self) -> float:
        """Steps until the next completion is whole."""
        return self._running[0][0] - self._steps

    def _duration(self, steps: float) -> float:
        """Seconds of the next steps: the cache grows by a token a sequence and step, so the mean step is the middle."""
        running = len(self._running)
        return steps * self._profile.decoding_step(running, self._cached + running * steps / 2)

    def work(self, seconds: float) -> None:
        """Decode for so long."""
        if seconds >= (self.alone() or 0.0):
            self._prompts = 0.0
            self._decode(self._left)
            self._steps = self._running[0][0]  # exactly
            self._finish()
            return
        read = min(seconds, self._prompts)
        self._prompts -= read
        self._decode(self._steps_in(seconds - read))

    def _steps_in(self, seconds: float) -> float:
        """Steps of so many seconds, which are fewer than to the next completion: the inverse of `_duration`."""
        first = self._duration(1.0)
        growth = (self._duration(2.0) - 2 * first) / 2  # duration(n) is even * n + growth * n**2
        even = first - growth
        return min(self._left, 2 * seconds / (even + math.sqrt(even**2 + 4 * growth * seconds)))

    def _decode(self, steps: float) -> None:
        self._steps += steps
        self._cached += len(self._running) * steps

    def _finish(self) -> None:
        while self._running and self._running[0][0] <= self._steps:
            _, _, tokens, tag = heapq.heappop(self._running)
            self._cached -= PROMPT_TOKENS + tokens
            self.finished.append(tag)
        self._admit()


class Judging(Generic[Tag]):
    """A judge's judgements, so many at once, in the order in which they come."""

    def __init__(self, profile: Profile) -> None:
        self.busy = 0.0
        self.finished: list[Tag] = []
        self._seconds = profile.judge_seconds
        self._free = [0.0] * profile.judge_concurrency  # when each place is free
        self._ends: deque[tuple[float, Tag]] = deque()
        self._worked = 0.0  # seconds of the card

    def add(self, tag: Tag) -> None:
        """Judge one completion."""
        ends = max(self._worked, self._free[0]) + self._seconds
        heapq.heapreplace(self._free, ends)
        self._ends.append((ends, tag))

    def alone(self) -> float | None:
        """Seconds of the card until the next judgement."""
        return self._ends[0][0] - self._worked if self._ends else None

    def work(self, seconds: float) -> None:
        """Judge for so long."""
        left = self._ends[0][0] - self._worked
        self._worked = self._ends[0][0] if seconds >= left else self._worked + seconds
        while self._ends and self._ends[0][0] <= self._worked:
            self.finished.append(self._ends.popleft()[1])
