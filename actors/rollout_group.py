"""All rollout engines behind one object: dealing, gathering, and engines that die or hang."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any
from uuid import uuid4

import ray
from ray.exceptions import RayError, RayTaskError

from actors.ray_calls import (
    ActorHandle,
    ProcessAddress,
    end_process,
    first_line,
    get_all,
    outcomes,
    unwrap,
    wait_for_some,
    wait_until_back,
)
from rapo_ray.config.run import LimitsConfig, RolloutConfig
from rapo_ray.errors import ActorDied, EngineError
from rapo_ray.orchestrator.dispatch import Dispatch, SampleRequest
from rapo_ray.seeds import derive_seed
from rapo_ray.types import Draft, GeneratedText, Packed, Prompt, Rollout, Sampling

log = logging.getLogger(__name__)

MESSAGES_A_SECOND = 200  # that the driver takes, from however many engines


class Engines:
    """The engine actors, how often each may start again, and what a new one needs before it may sample."""

    def __init__(self, actors: list[ActorHandle], limits: LimitsConfig) -> None:
        self.actors = actors
        self.limits = limits
        self.restarts = [0] * len(actors)
        self.version = -1  # of the weights that all hold; -1 for the model they were started with
        self.restarted: Callable[[str], None] = lambda role: None  # who counts
        self.restore_weights: Callable[[int], None] = lambda index: None  # nobody has any before the policy lives
        self._addresses: list[ProcessAddress] = get_all(
            [actor.process_address.remote() for actor in actors], limits.start, "engines", "limits.start"
        )

    @property
    def all(self) -> range:
        """The numbers of all engines."""
        return range(len(self.actors))

    def restart(self, index: int, why: str) -> None:
        """Wait until Ray has started a lost engine again; it has no weights of the policy yet. Raises ActorDied."""
        self.restarts[index] += 1
        name, budget = f"rollout-{index}", self.limits.restarts
        if self.restarts[index] > budget:
            raise ActorDied(f"{name} was lost {self.restarts[index]} times, more than limits.restarts={budget}: {why}")
        log.warning("%s was lost (%s); starting it again, %d of %d", name, why, self.restarts[index], budget)
        self.restarted("rollout")
        wait_until_back(self.actors[index], name, self.limits.start)
        self._addresses[index] = self.on([index], "process_address")[0]

    def restart_all(self, why: str) -> bool:
        """Start all engines again where one is dead: the others hold half of the weights. False where all live."""
        alive = [actor.ready.remote() for actor in self.actors]
        try:
            ray.get(alive, timeout=self.limits.silence)
        except RayError:
            for index in self.all:
                self.end(index)
            for index in self.all:
                self.restart(index, why)
            return True
        return False

    def end(self, index: int) -> None:
        """Kill an engine's process."""
        end_process(self._addresses[index], f"rollout-{index}")

    def on(self, engines: Sequence[int], method: str, *arguments: object) -> list[Any]:
        """The results of a control call on some engines."""
        refs = [getattr(self.actors[index], method).remote(*arguments) for index in engines]
        return get_all(refs, self.limits.sync, f"{method} of the rollout engines", "limits.sync")


class RolloutGroup:
    """All engines, sampled in one way."""

    def __init__(self, engines: Engines, config: RolloutConfig, seed: int, write_tokens: int) -> None:
        self.engines = engines
        self._config = config
        self._seed = seed
        self._write_tokens = write_tokens

    def sleep(self) -> None:
        """All engines leave their GPUs to others until they get new weights."""
        self.engines.on(self.engines.all, "sleep")

    def check(self, prompts: list[Prompt]) -> None:
        """Raises DataError for a prompt that no engine would take."""
        self.engines.on([0], "check", prompts)

    def lengths(self, prompts: list[Prompt]) -> list[int]:
        """The tokens of each prompt as it is asked."""
        found: list[int] = self.engines.on([0], "lengths", prompts)[0]
        return found

    def sampling(self, temperature: float, max_new_tokens: int) -> "RolloutGroup":
        """The same engines, sampled otherwise; temperature 0 is greedy."""
        config = self._config.model_copy(update={"temperature": temperature, "max_new_tokens": max_new_tokens})
        return RolloutGroup(self.engines, config, self._seed, max_new_tokens)

    def generate(self, prompts_P: list[Prompt], samples: range, round_number: int) -> Iterator[list[Rollout]]:
        """Rollouts as they end, in batches that may be empty; a measurement is round 0, with seeds of its own."""
        config = self._config
        sampling = Sampling(config.temperature, config.top_p, config.max_new_tokens, None, logprobs=True)
        requests = [
            SampleRequest(group, prompt, sample, self._seed_of(round_number, group, prompt, sample), sampling)
            for group, prompt in enumerate(prompts_P)
            for sample in samples
        ]
        groups = [list(same) for _, same in groupby(requests, key=lambda request: request.group)]
        dispatch = Dispatch(groups, len(self.engines.actors), config.max_num_seqs)
        yield from _Gathering(self.engines, dispatch).batches()

    def write(self, drafts: list[Draft]) -> list[GeneratedText]:
        """Continue drafts greedily, dealt over the engines; results in order."""
        actors = self.engines.actors
        count = len(actors)
        refs = [actor.write.remote(drafts[index::count], self._write_tokens) for index, actor in enumerate(actors)]
        out: list[Any] = [None] * len(drafts)
        for index, written in enumerate(get_all(refs, self.engines.limits.warmup, "synthesis", "limits.warmup")):
            out[index::count] = written
        return out

    def _seed_of(self, round_number: int, group: int, prompt: Prompt, sample: int) -> int:
        return derive_seed(self._seed, round_number, group, prompt.id, sample)


class _Gathering:
    """One round's completions, from handing out to the last one."""

    def __init__(self, engines: Engines, dispatch: Dispatch) -> None:
        self._engines = engines
        self._dispatch = dispatch
        self._call = uuid4().hex
        self._window = len(engines.actors) / MESSAGES_A_SECOND
        self._pending: dict[Any, int] = {}  # call under way -> engine
        self._collecting: set[int] = set()
        now = time.monotonic()
        self._heard = [now] * len(engines.actors)  # when each engine last answered, and last ended a completion
        self._ended = [now] * len(engines.actors)

    def batches(self) -> Iterator[list[Rollout]]:
        """What ended, as it ends; raises EngineError, ActorDied, DataError."""
        while self._dispatch.unfinished:
            self._send()
            yield self._receive()
            for index, why in self._silent():
                self._lost(index, why)

    def _send(self) -> None:
        """Hand out; one call to an engine both gives it batches and asks for what ends, where none is under way."""
        handed = self._dispatch.next_assignments()
        for index, actor in enumerate(self._engines.actors):
            batches = handed.get(index, [])
            given = (self._call, self._engines.version, Packed(batches))
            if batches:
                self._heard[index] = self._ended[index] = time.monotonic()
            if self._dispatch.busy(index) and index not in self._collecting:
                self._collecting.add(index)
                self._pending[actor.collect.remote(*given, self._window)] = index
            elif batches:
                self._pending[actor.submit.remote(*given)] = index

    def _receive(self) -> list[Rollout]:
        ready = wait_for_some(list(self._pending), timeout=1.0)
        fresh: list[Rollout] = []
        for ref, outcome in zip(ready, outcomes(ready), strict=True):
            index = self._pending.pop(ref, None)
            if index is not None:  # of an engine that was lost meanwhile
                fresh += self._answer(index, outcome)
        return fresh

    def _answer(self, index: int, outcome: Any) -> list[Rollout]:
        if isinstance(outcome, RayTaskError):
            meant = unwrap(outcome, f"rollout-{index}")
            if not isinstance(meant, EngineError):
                raise meant from outcome
            self._lost(index, str(meant))
            return []
        if isinstance(outcome, RayError):
            self._lost(index, first_line(outcome))
            return []
        self._heard[index] = time.monotonic()
        rollouts: list[Rollout] | None = outcome
        if rollouts is None:  # of submit
            return []
        self._collecting.discard(index)
        fresh = self._dispatch.mark_finished(index, rollouts)
        if fresh:
            self._ended[index] = self._heard[index]
        return fresh

    def _silent(self) -> Iterator[tuple[int, str]]:
        """Engines that hang: no answer at all, or none of their completions ends."""
        limits, now = self._engines.limits, time.monotonic()
        for index in sorted(self._collecting):
            if now - self._heard[index] > limits.silence:
                yield index, f"no answer in limits.silence={limits.silence:g} s"
            elif now - self._ended[index] > limits.generate:
                yield index, f"no completion in limits.generate={limits.generate:g} s"

    def _lost(self, index: int, why: str) -> None:
        """Bring an engine back and hand it again what it had not finished; the others go on meanwhile.

        It is ended first: one that only did not answer would write the old batches beside the new ones.
        """
        self._engines.end(index)
        self._pending = {ref: engine for ref, engine in self._pending.items() if engine != index}
        self._collecting.discard(index)
        self._engines.restart(index, why)
        self._engines.restore_weights(index)
        lost = self._dispatch.requeue(index)
        log.warning("rollout-%d is back; %d completions are sampled again", index, lost)
        now = time.monotonic()
        self._heard = [now] * len(self._heard)  # nobody was listened to meanwhile
