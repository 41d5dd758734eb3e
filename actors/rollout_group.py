"""All rollout engines behind one object: control calls, restarts, and the calls of a generation."""

import logging
import math
from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
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
from rapo_ray.orchestrator.dispatch import Batches, Dispatch, SampleRequest
from rapo_ray.orchestrator.gather import Outcome, RolloutGathering
from rapo_ray.seeds import derive_seed
from rapo_ray.types import Draft, GeneratedText, Packed, Prompt, Response, Rollout, Sampling

log = logging.getLogger(__name__)

MESSAGES_A_SECOND = 200  # that the driver accepts, from however many engines


class Engines:
    """The engine actors, their restart budgets, and what a restarted one needs before it may sample."""

    def __init__(self, actors: list[ActorHandle], limits: LimitsConfig) -> None:
        self.actors = actors
        self.limits = limits
        self.restarts = [0] * len(actors)
        self.version = -1  # of the weights that all hold; -1 for the model they were started with
        self.restarted: Callable[[str], None] = lambda role: None  # counts restarts
        self.restore_weights: Callable[[int], None] = lambda index: None  # there are none before the policy starts
        self._addresses: list[ProcessAddress] = get_all(
            [actor.process_address.remote() for actor in actors], limits.start, "engines", "limits.start"
        )
        capacities = get_all([actor.capacity.remote() for actor in actors], limits.start, "engines", "limits.start")
        self.capacity: int = min(capacities, default=0)  # sequences that each runs at once

    @property
    def all(self) -> range:
        """The numbers of all engines."""
        return range(len(self.actors))

    def restart(self, index: int, why: str) -> None:
        """Wait until Ray has restarted a lost engine; it has none of the policy's weights yet. Raises ActorDied."""
        self.restarts[index] += 1
        name, budget = f"rollout-{index}", self.limits.restarts
        if self.restarts[index] > budget:
            raise ActorDied(f"{name} was lost {self.restarts[index]} times, more than limits.restarts={budget}: {why}")
        log.warning("%s was lost (%s); restarting it, %d of %d", name, why, self.restarts[index], budget)
        self.restarted("rollout")
        wait_until_back(self.actors[index], name, self.limits.start)
        self._addresses[index] = self.on([index], "process_address")[0]

    def restart_all(self, why: str) -> bool:
        """Restart all engines where one is dead: the others hold half of the weights. False where all live."""
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
    """All engines, with one way of sampling."""

    def __init__(self, engines: Engines, config: RolloutConfig, seed: int, write_tokens: int) -> None:
        self.engines = engines
        self._config = config
        self._seed = seed
        self._write_tokens = write_tokens

    def sleep(self) -> None:
        """Free the GPUs of all engines until they get new weights."""
        self.engines.on(self.engines.all, "sleep")

    def prompt_lengths(self, prompts: list[Prompt]) -> list[int]:
        """Tokens of each rendered prompt."""
        lengths: list[int] = self.engines.on([0], "prompt_lengths", prompts)[0]
        return lengths

    def sampling(self, temperature: float, max_new_tokens: int) -> "RolloutGroup":
        """The same engines with other sampling settings; temperature 0 is greedy."""
        config = self._config.model_copy(update={"temperature": temperature, "max_new_tokens": max_new_tokens})
        return RolloutGroup(self.engines, config, self._seed, max_new_tokens)

    def generate(self, prompts_P: list[Prompt], samples: range, round_number: int) -> Iterator[list[Rollout]]:
        """Rollouts as they finish, in batches that may be empty; a measurement is round 0, with seeds of its own."""
        config = self._config
        sampling = Sampling(config.temperature, config.top_p, config.max_new_tokens, None, logprobs=True)
        requests = [
            SampleRequest(
                group, prompt, sample, derive_seed(self._seed, round_number, group, prompt.id, sample), sampling
            )
            for group, prompt in enumerate(prompts_P)
            for sample in samples
        ]
        groups = [list(same) for _, same in groupby(requests, key=lambda request: request.group)]
        dispatch = Dispatch(groups, len(self.engines.actors), self.engines.capacity)
        count = len(self.engines.actors)
        yield from RolloutGathering(_RayEngines(self.engines), dispatch, count, self.engines.limits).batches()

    def respond(self, prompts_P: list[Prompt]) -> Iterator[list[Response]]:
        """One response to each prompt as they finish; a measurement, so with the seeds of round 0."""
        for batch in self.generate(prompts_P, range(1), 0):
            yield [rollout.response for rollout in batch]

    def write(self, drafts: list[Draft]) -> list[GeneratedText]:
        """Whole completions of drafts, written greedily, dealt over the engines; results in order.

        An engine answers once for all of them, so it has `limits.generate` for as many as it writes at once.
        """
        if not drafts:
            return []
        actors = self.engines.actors
        count = len(actors)
        waves = math.ceil(len(drafts) / (count * max(1, self.engines.capacity)))
        seconds = self.engines.limits.generate * waves
        refs = [actor.write.remote(drafts[index::count], self._write_tokens) for index, actor in enumerate(actors)]
        out: list[Any] = [None] * len(drafts)
        for index, texts in enumerate(get_all(refs, seconds, "writing from drafts", f"{waves} x limits.generate")):
            out[index::count] = texts
        return out


class _RayEngines:
    """The calls of one `generate` through Ray."""

    def __init__(self, engines: Engines) -> None:
        self._engines = engines
        self._call = uuid4().hex
        self._window = len(engines.actors) / MESSAGES_A_SECOND

    def begin(self, engine: int, batches: Batches, collects: bool) -> Hashable:
        """Hand batches to an engine and, where `collects`, ask for what finishes next."""
        actor = self._engines.actors[engine]
        handed = (self._call, self._engines.version, Packed(batches))
        call: Hashable = actor.collect.remote(*handed, self._window) if collects else actor.submit.remote(*handed)
        return call

    def finished(self, calls: Collection[Hashable]) -> list[tuple[Hashable, Outcome]]:
        """Calls that have finished, after a second at most."""
        ready = wait_for_some(list(calls), timeout=1.0)
        return [(ref, _outcome(outcome)) for ref, outcome in zip(ready, outcomes(ready), strict=True)]

    def recover(self, engine: int, why: str) -> None:
        """End an engine, start it again and give it its weights."""
        self._engines.end(engine)
        self._engines.restart(engine, why)
        self._engines.restore_weights(engine)


def _outcome(result: Any) -> Outcome:
    if isinstance(result, RayTaskError):
        meant = unwrap(result, "a rollout engine")
        if not isinstance(meant, EngineError):
            raise meant from result
        return meant
    if isinstance(result, RayError):
        return EngineError(first_line(result))
    rollouts: list[Rollout] | None = result
    return rollouts
