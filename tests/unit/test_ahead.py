"""Rounds drawn while the policy learns: which, with what weights, and what happens when one fails."""

import threading

import pytest

from rapo_ray.config import RunConfig
from rapo_ray.errors import EngineError, RoundLost
from rapo_ray.orchestrator.prefetch import Ahead
from rapo_ray.orchestrator.round import Roles, draw_groups, run_round
from rapo_ray.pipeline.run import may_draw_ahead
from rapo_ray.roles import Progress
from rapo_ray.types import Group, Sequence, UpdateResult
from tests.make import make_group, make_prompt, scored
from tests.unit.test_orchestrator import World

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
    """A policy whose update ends only once the next round is being drawn, where that is to be."""

    def __init__(self, ahead_of: set[int]) -> None:
        super().__init__(version=0)
        self.ahead_of = ahead_of  # rounds drawn ahead
        self.drawing = threading.Event()
        self.number = 0

    def update(self, sequences: list[Sequence]) -> UpdateResult:
        if self.number + 1 in self.ahead_of:
            assert self.drawing.wait(WAIT), "the next round is not drawn beside the update"
        return super().update(sequences)

    def sync(self, version: int) -> None:
        self.version = version
        self.drawing.clear()
        super().sync(version)


def play(world: Overlapping, settings: RunConfig) -> list[int]:
    """The weights that made each round."""

    def draw(number: int, judged: object) -> tuple[Group, ...]:
        if number in world.ahead_of:
            world.drawing.set()
        return draw_groups(roles, settings, [make_prompt(0)], number, lambda done, total: None)

    roles: Roles = world.roles()
    ahead = Ahead(draw, lambda number: may_draw_ahead(settings, number))
    versions = []
    for number in range(1, settings.rounds + 1):
        world.number = number
        versions.append(run_round(roles, settings, ahead, number, Progress()).policy_version)
    return versions


def test_each_round_is_drawn_with_the_newest_weights() -> None:
    world = Overlapping(set())
    assert play(world, config(staleness=0)) == [0, 1, 2, 3, 4, 5, 6]
    assert world.synced == [1, 2, 3, 4, 5, 6, 7]


def test_ahead_a_round_lags_by_one_but_after_a_checkpoint_by_none() -> None:
    world = Overlapping({2, 3, 5, 6})
    assert play(world, config(staleness=1)) == [0, 0, 1, 3, 3, 4, 6]  # checkpoints follow 3, 6 and the last
    assert world.synced == [1, 2, 3, 4, 5, 6, 7]


def test_weights_change_only_when_nothing_is_drawn() -> None:
    drawn, release = threading.Event(), threading.Event()

    def draw(number: int, judged: object) -> tuple[Group, ...]:
        if number == 2:
            drawn.set()
            assert release.wait(WAIT)
        return (make_group(scored(1.0), scored(-1.0)),)

    ahead = Ahead(draw, lambda number: True)
    assert ahead.take(1, lambda done, total: None).version == 0
    ahead.begin(2)
    assert drawn.wait(WAIT) and ahead.in_flight
    waiting = threading.Thread(target=ahead.wait)
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive()
    release.set()
    waiting.join(WAIT)
    assert not waiting.is_alive()
    assert ahead.take(2, lambda done, total: None).version == 0
    assert not ahead.in_flight


def test_what_stops_the_drawing_stops_the_round_before_any_weights_change() -> None:
    def draw(number: int, judged: object) -> tuple[Group, ...]:
        if number == 2:
            raise EngineError("an engine died")
        return draw_groups(roles, settings, [make_prompt(0)], number, lambda done, total: None)

    settings, world = config(staleness=1), Overlapping(set())
    roles = world.roles()
    ahead = Ahead(draw, lambda number: may_draw_ahead(settings, number))
    with pytest.raises(EngineError, match="an engine died"):
        run_round(roles, settings, ahead, 1, Progress())
    assert world.synced == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"policy": {"importance_correction": "off"}}, "needs a ratio to the weights that made the rollouts"),
        ({"checkpoint": {"every": 1}}, "prefetches no round with checkpoint.every=1"),
    ],
)
def test_settings_that_fit_no_staleness_are_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        RunConfig.model_validate({"rollout": {"staleness": 1}, "checkpoint": {"every": 4}, **changes})


def test_a_round_whose_engine_lost_its_weights_is_drawn_anew_with_those_of_its_turn() -> None:
    drawn: list[int] = []

    def draw(number: int, judged: object) -> tuple[Group, ...]:
        drawn.append(number)
        if len(drawn) == 1:
            raise RoundLost("an engine was lost")
        return (make_group(scored(1.0)),)

    ahead = Ahead(draw, lambda number: True)
    ahead.begin(4)
    ahead.wait()
    assert not ahead.in_flight
    assert ahead.take(4, lambda done, total: None).version == 3
    assert drawn == [4, 4]
