"""Assignment of completions to engines (pure): whole groups, long prompts first, to the least loaded engine.

As many as fit into the engines are assigned at once, so that batches do not depend on timing. The rest follows as
completions finish. A lost engine is assigned its unfinished completions a second time, in the same batches: with the
same seeds and the same batches it samples the same completions.
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
        """Group and sample, unique in a round."""
        return self.group, self.sample


@dataclass(frozen=True, slots=True)
class Assigned:
    """A batch that an engine was sent, and the keys that have not finished."""

    requests: tuple[SampleRequest, ...]
    left: set[Key]


Batches = list[list[SampleRequest]]  # sent to an engine in one call


class Dispatch:
    """Deals groups over `engines`, each of which runs `capacity` sequences at once."""

    def __init__(self, groups: Iterable[Sequence[SampleRequest]], engines: int, capacity: int) -> None:
        self._waiting = deque(sorted(groups, key=lambda group: -len(group[0].prompt.whole_text)))
        self._limit = OVERCOMMIT * capacity
        self._batches: list[list[Assigned]] = [[] for _ in range(engines)]
        self._again: dict[int, list[Assigned]] = {}
        self._load = [0] * engines
        self._finished: set[Key] = set()

    @property
    def unfinished(self) -> bool:
        """True while a completion is outstanding."""
        return bool(self._waiting or any(self._load))

    def busy(self, engine: int) -> bool:
        """True while the engine has completions to sample."""
        return self._load[engine] > 0

    def next_assignments(self) -> dict[int, list[list[SampleRequest]]]:
        """The batches to send to each engine now."""
        out = {engine: [list(batch.requests) for batch in batches] for engine, batches in self._again.items()}
        self._again.clear()
        for engine, requests in self._deal().items():
            self._batches[engine].append(Assigned(tuple(requests), {request.key for request in requests}))
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
        """The rollouts that had not finished before; a requeued batch repeats some."""
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
        """Assign a restarted engine its open batches again; returns how many completions were outstanding."""
        outstanding = self._load[engine]
        again = [
            Assigned(batch.requests, {request.key for request in batch.requests}) for batch in self._batches[engine]
        ]
        if again:
            self._again[engine] = list(again)
        self._batches[engine] = again
        self._load[engine] = sum(len(batch.left) for batch in again)
        return outstanding
