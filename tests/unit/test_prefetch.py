"""Rounds collected while the policy learns: which, with what weights, and what happens when one fails."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from rapo_ray.config import RunConfig
from rapo_ray.errors import EngineError, RoundLost
from rapo_ray.orchestrator.collect import RoundCollector
from rapo_ray.orchestrator.prefetch import RolloutPrefetcher
from rapo_ray.orchestrator.round import run_round
from rapo_ray.pipeline.session import may_prefetch
from rapo_ray.roles import Judged, Progress
from rapo_ray.types import Group, Prompt, Sequence, UpdateResult
from tests.make import make_group, make_prompt, scored
from tests.unit.test_orchestrator import Prompts, World

pytestmark = pytest.mark.unit

WAIT = 20.0  # seconds after which a test hangs no longer


def config(staleness: int, every: int = 3, rounds: int = 7) -> RunConfig:
    return RunConfig.model_validate(
        {
            "samples_per_prompt": 2,
            "rounds": rounds,
            "rollout": {"staleness": staleness},
            "checkpoint": {"every": every},
        }
    )


class Overlapping(World):
    """A policy whose update ends only once the next round is being collected, where that is to be."""

    def __init__(self, prefetched: set[int]) -> None:
        super().__init__(version=0)
        self.prefetched = prefetched
        self.collecting = threading.Event()
        self.number = 0

    def update(self, sequences: list[Sequence]) -> UpdateResult:
        if self.number + 1 in self.prefetched:
            assert self.collecting.wait(WAIT), "the next round is not collected beside the update"
        return super().update(sequences)

    def sync(self, version: int) -> None:
        self.version = version
        self.collecting.clear()
        super().sync(version)


@dataclass
class Scripted:
    """A collector that does as its function says; notes what it was given."""

    body: Callable[[int], tuple[Group, ...]]
    calls: list[tuple[int, list[Prompt]]] = field(default_factory=list)

    def collect(self, prompts_P: list[Prompt], number: int, judged: Judged) -> tuple[Group, ...]:
        self.calls.append((number, prompts_P))
        return self.body(number)


def prefetcher(body: Callable[[int], tuple[Group, ...]], settings: RunConfig | None = None) -> RolloutPrefetcher:
    return RolloutPrefetcher(
        Prompts([make_prompt(0)]), Scripted(body), lambda number: settings is None or may_prefetch(settings, number)
    )


def play(world: Overlapping, settings: RunConfig) -> list[int]:
    """The weights that made each round."""
    collector = RoundCollector(world.inference(), settings)

    def collect(number: int) -> tuple[Group, ...]:
        if number in world.prefetched:
            world.collecting.set()
        return collector.collect([make_prompt(0)], number, lambda done, total: None)

    source = prefetcher(collect, settings)
    versions = []
    for number in range(1, settings.rounds + 1):
        world.number = number
        versions.append(run_round(source, world.learner(), settings, number, Progress()).policy_version)
    return versions


def test_each_round_is_collected_with_the_newest_weights() -> None:
    world = Overlapping(set())
    assert play(world, config(staleness=0)) == [0, 1, 2, 3, 4, 5, 6]
    assert world.synced == [1, 2, 3, 4, 5, 6, 7]


def test_a_prefetched_round_lags_by_one_but_after_a_checkpoint_by_none() -> None:
    world = Overlapping({2, 3, 5, 6})
    assert play(world, config(staleness=1)) == [0, 0, 1, 3, 3, 4, 6]  # checkpoints follow 3, 6 and the last
    assert world.synced == [1, 2, 3, 4, 5, 6, 7]


def test_weights_change_only_when_nothing_is_in_flight() -> None:
    started, release = threading.Event(), threading.Event()

    def collect(number: int) -> tuple[Group, ...]:
        if number == 2:
            started.set()
            assert release.wait(WAIT)
        return (make_group(scored(1.0), scored(-1.0)),)

    source = prefetcher(collect)
    assert source.take(1, lambda done, total: None).version == 0
    source.prefetch(2)
    assert started.wait(WAIT) and source.in_flight
    waiting = threading.Thread(target=source.wait)
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive()
    release.set()
    waiting.join(WAIT)
    assert not waiting.is_alive()
    assert source.take(2, lambda done, total: None).version == 0
    assert not source.in_flight


def test_an_error_while_prefetching_stops_the_round_before_any_weights_change() -> None:
    settings, world = config(staleness=1), Overlapping(set())
    collector = RoundCollector(world.inference(), settings)

    def collect(number: int) -> tuple[Group, ...]:
        if number == 2:
            raise EngineError("an engine died")
        return collector.collect([make_prompt(0)], number, lambda done, total: None)

    with pytest.raises(EngineError, match="an engine died"):
        run_round(prefetcher(collect, settings), world.learner(), settings, 1, Progress())
    assert world.synced == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"policy": {"importance_correction": "off"}}, "needs a ratio to the weights that made the rollouts"),
        ({"checkpoint": {"every": 1}}, "prefetches no round with checkpoint.every=1"),
    ],
)
def test_settings_that_fit_no_staleness_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RunConfig.model_validate({"rollout": {"staleness": 1}, "checkpoint": {"every": 4}, **changes})


class Numbered:
    """New prompts for every round."""

    def __init__(self) -> None:
        self.batches = 0

    def next_batch(self, number: int) -> list[Prompt]:
        self.batches += 1
        return [make_prompt(self.batches)]


def test_a_round_whose_engine_lost_its_weights_is_resampled_from_the_same_prompts_with_those_of_its_turn() -> None:
    def collect(number: int) -> tuple[Group, ...]:
        if len(collector.calls) == 1:
            raise RoundLost("an engine was lost")
        return (make_group(scored(1.0)),)

    collector, prompts = Scripted(collect), Numbered()
    source = RolloutPrefetcher(prompts, collector, lambda number: True)
    source.prefetch(4)
    source.wait()
    assert not source.in_flight
    assert source.take(4, lambda done, total: None).version == 3
    assert collector.calls == [(4, [make_prompt(1)])] * 2
    source.take(5, lambda done, total: None)
    assert collector.calls[-1] == (5, [make_prompt(2)])
