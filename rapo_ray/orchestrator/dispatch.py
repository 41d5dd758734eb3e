"""Which engine gets which completions to sample (pure): whole groups, long prompts first, to the least loaded engine.

What fits into the engines at once is handed out at once, so that batches do not depend on timing. The rest follows as
completions end. An engine that was lost gets what it had not finished again, in the batches it was handed out in:
with the same seeds and the same batches it writes the same completions.
"""

import heapq
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rapo_ray.types import Message, Prompt, Rollout, Sampling, message

OVERCOMMIT = 2  # batches that an engine holds, so that it never waits for the driver

Key = tuple[int, int]  # group and sample


@message
class SampleRequest(Message):
    """One completion to sample."""

    group: int
    prompt: Prompt
    sample: int
    seed: int
    sampling: Sampling  # of all requests of a round; it has no seed

    @property
    def key(self) -> Key:
        """What no two requests of a round share."""
        return self.group, self.sample


@dataclass(frozen=True, slots=True)
class Handed:
    """What an engine was handed at once, and which of it has not ended."""

    requests: tuple[SampleRequest, ...]
    left: set[Key]


Batches = list[list[SampleRequest]]  # what an engine is sent at once


class Dispatch:
    """Deals groups over `engines`, each of which runs `capacity` sequences at once."""

    def __init__(self, groups: Iterable[Sequence[SampleRequest]], engines: int, capacity: int) -> None:
        self._waiting = deque(sorted(groups, key=lambda group: -len(group[0].prompt.text)))
        self._limit = OVERCOMMIT * capacity
        self._batches: list[list[Handed]] = [[] for _ in range(engines)]
        self._again: dict[int, list[Handed]] = {}
        self._load = [0] * engines
        self._finished: set[Key] = set()

    @property
    def unfinished(self) -> bool:
        """True while a completion is to come."""
        return bool(self._waiting or any(self._load))

    def busy(self, engine: int) -> bool:
        """True while the engine has something to write."""
        return self._load[engine] > 0

    def next_assignments(self) -> dict[int, list[list[SampleRequest]]]:
        """What each engine is to be sent now, batch by batch."""
        out = {engine: [list(batch.requests) for batch in batches] for engine, batches in self._again.items()}
        self._again.clear()
        for engine, requests in self._deal().items():
            self._batches[engine].append(Handed(tuple(requests), {request.key for request in requests}))
            out.setdefault(engine, []).append(requests)
        return out

    def _deal(self) -> dict[int, list[SampleRequest]]:
        handed: dict[int, list[SampleRequest]] = {}
        loads = [(load, engine) for engine, load in enumerate(self._load)]
        heapq.heapify(loads)
        while self._waiting:
            load, engine = loads[0]
            group = self._waiting[0]
            if load and load + len(group) > self._limit:
                break
            self._waiting.popleft()
            handed.setdefault(engine, []).extend(group)
            self._load[engine] = load + len(group)
            heapq.heapreplace(loads, (self._load[engine], engine))
        return handed

    def mark_finished(self, engine: int, rollouts: Iterable[Rollout]) -> list[Rollout]:
        """The rollouts that had not ended before; a batch that was handed out again repeats some."""
        fresh = []
        for rollout in rollouts:
            key = (rollout.group, rollout.sample)
            for batch in self._batches[engine]:
                if key in batch.left:
                    batch.left.remove(key)
                    self._load[engine] -= 1
                    break
            if key not in self._finished:
                self._finished.add(key)
                fresh.append(rollout)
        self._batches[engine] = [batch for batch in self._batches[engine] if batch.left]
        return fresh

    def requeue(self, engine: int) -> int:
        """The engine forgot all: it is to be sent its open batches again; how many completions were lost."""
        lost = self._load[engine]
        again = [Handed(batch.requests, {request.key for request in batch.requests}) for batch in self._batches[engine]]
        if again:
            self._again[engine] = list(again)
        self._batches[engine] = again
        self._load[engine] = sum(len(batch.left) for batch in again)
        return lost
