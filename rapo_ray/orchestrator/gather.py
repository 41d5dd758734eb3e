"""Rollouts of one call gathered from many engines (pure): handed out, collected, and taken back from lost engines."""

import logging
import time
from collections.abc import Callable, Collection, Hashable, Iterator
from typing import Protocol

from rapo_ray.config.run import LimitsConfig
from rapo_ray.errors import EngineError
from rapo_ray.orchestrator.dispatch import Batches, Dispatch
from rapo_ray.types import Rollout

log = logging.getLogger(__name__)

Outcome = list[Rollout] | None | EngineError  # None where the call only submitted; an error where the engine is lost


class EnginePort(Protocol):
    """The engines behind their calls."""

    def begin(self, engine: int, batches: Batches, collects: bool) -> Hashable:
        """Hand batches to an engine and, where `collects`, ask for what finishes next; returns the call."""
        ...

    def finished(self, calls: Collection[Hashable]) -> list[tuple[Hashable, Outcome]]:
        """Calls that have finished, after a short wait; raises an error that is no engine's loss."""
        ...

    def recover(self, engine: int, why: str) -> None:
        """End an engine, start it again and give it its weights; raises ActorDied past its restarts."""
        ...


class RolloutGathering:
    """One call's completions, from the first assignment to the last rollout."""

    def __init__(
        self,
        port: EnginePort,
        dispatch: Dispatch,
        engines: int,
        limits: LimitsConfig,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._port = port
        self._dispatch = dispatch
        self._limits = limits
        self._clock = clock
        self._pending: dict[Hashable, int] = {}  # call -> engine
        self._collecting: set[int] = set()
        self._answered = [clock()] * engines  # when each engine last answered
        self._progressed = [clock()] * engines  # when each engine last finished a completion

    def batches(self) -> Iterator[list[Rollout]]:
        """Rollouts as they finish, in batches that may be empty; raises EngineError, ActorDied, DataError."""
        while self._dispatch.unfinished:
            self._send()
            yield self._receive()
            for engine, why in self._silent():
                self._recover(engine, why)

    def _send(self) -> None:
        """Hand out; one call both gives an engine batches and asks for what finishes, where none is pending."""
        assignments = self._dispatch.next_assignments()
        for engine in range(len(self._answered)):
            batches = assignments.get(engine, [])
            if batches:
                self._answered[engine] = self._progressed[engine] = self._clock()
            collects = self._dispatch.busy(engine) and engine not in self._collecting
            if collects:
                self._collecting.add(engine)
            if collects or batches:
                self._pending[self._port.begin(engine, batches, collects)] = engine

    def _receive(self) -> list[Rollout]:
        fresh: list[Rollout] = []
        for call, outcome in self._port.finished(self._pending.keys()):
            engine = self._pending.pop(call, None)
            if engine is not None:  # None: of an engine that was recovered meanwhile
                fresh += self._answer(engine, outcome)
        return fresh

    def _answer(self, engine: int, outcome: Outcome) -> list[Rollout]:
        if isinstance(outcome, EngineError):
            self._recover(engine, str(outcome))
            return []
        self._answered[engine] = self._clock()
        if outcome is None:
            return []
        self._collecting.discard(engine)
        fresh = self._dispatch.mark_finished(engine, outcome)
        if fresh:
            self._progressed[engine] = self._answered[engine]
        return fresh

    def _silent(self) -> Iterator[tuple[int, str]]:
        """Engines that hang: no answer at all, or no completion finishes."""
        limits, now = self._limits, self._clock()
        for engine in filter(self._dispatch.busy, range(len(self._answered))):
            if now - self._answered[engine] > limits.silence:
                yield engine, f"no answer in limits.silence={limits.silence:g} s"
            elif now - self._progressed[engine] > limits.generate:
                yield engine, f"no completion in limits.generate={limits.generate:g} s"

    def _recover(self, engine: int, why: str) -> None:
        """Bring an engine back and requeue what it had not finished; the others go on meanwhile.

        It is ended first: one that only did not answer would write the old batches beside the new ones.
        """
        self._pending = {call: owner for call, owner in self._pending.items() if owner != engine}
        self._collecting.discard(engine)
        self._port.recover(engine, why)
        requeued = self._dispatch.requeue(engine)
        log.warning("rollout-%d is back; %d completions are sampled again", engine, requeued)
        self._answered = [self._clock()] * len(self._answered)  # nobody was listened to meanwhile
