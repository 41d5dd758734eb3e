"""A sync: pause, send, check the version, resume; where anything fails, the engines stay paused."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from actors.rollout import RolloutActor
from rapo_ray.errors import ActorDied, EngineError
from rapo_ray.weights import PolicyToEngines

pytestmark = pytest.mark.unit


@dataclass
class Both:
    """The policy's side and the engines' side, one log of calls."""

    fails_at: str = ""
    deaths: int = 0  # times that an engine dies while weights are sent
    dies_at_resume: int = 0  # times that one dies after that
    dead: bool = False
    may_send_again: bool = True
    version: int = -1
    give_weights: Callable[[int], None] = lambda engine: None
    calls: list[str] = field(default_factory=list)

    @property
    def all(self) -> Sequence[int]:
        return range(2)

    def _note(self, call: str) -> None:
        self.calls.append(call)
        if call.startswith(self.fails_at or "never"):
            raise EngineError(f"{call} failed")

    def on(self, engines: Sequence[int], method: str, *arguments: object) -> list[Any]:
        self._note(f"{method} {list(engines)}")
        if self.dies_at_resume:
            self.dies_at_resume -= 1
            self.dead = True
            raise ActorDied("an engine died")
        return [None for engine in engines]

    def send_weights(self, version: int) -> None:
        self._note(f"send {version}")
        if self.deaths:
            self.deaths -= 1
            self.dead = True
            raise ActorDied("an engine died")

    def send_again(self, engine: int) -> None:
        self._note(f"send again to {engine}")

    def start_over(self, why: str) -> bool:
        self._note(f"start over: {why}")
        revived, self.dead = self.dead, False
        return revived


def sync(both: Both, version: int = 3) -> None:
    PolicyToEngines(both, both).sync(version)


WHOLE = ["send 3", "resume [0, 1]"]


def test_the_order() -> None:
    both = Both()
    sync(both)
    assert both.calls == WHOLE
    assert both.version == 3


def test_where_sending_fails_the_engines_are_not_resumed() -> None:
    both = Both(fails_at="send")
    with pytest.raises(EngineError, match=r"^send 3 failed$"):
        sync(both)
    assert both.calls == WHOLE[:1]
    assert both.version == -1


@dataclass
class Vllm:
    """Stands for vLLM's engine below the actor."""

    holds: str
    calls: list[str] = field(default_factory=list)

    def weight_version(self) -> str:
        return self.holds

    def __getattr__(self, method: str) -> Callable[..., None]:
        return lambda *arguments: self.calls.append(method)


def rollout_actor(vllm: Vllm) -> RolloutActor:
    actor = RolloutActor.__new__(RolloutActor)
    actor._name, actor._version, actor._engine = "rollout-1", 2, vllm  # type: ignore[assignment]
    return actor


def test_an_engine_pauses_before_its_weights_change() -> None:
    vllm = Vllm("3")
    actor = rollout_actor(vllm)
    actor.start_weight_update()
    actor.finish_weight_update(3)
    assert vllm.calls == ["pause", "start_weight_update", "finish_weight_update"]
    assert actor._version == 3


@pytest.mark.parametrize("held", ["2", "4", "", "03", "None"])
def test_an_engine_that_holds_another_version_says_so_and_does_not_sample_with_it(held: str) -> None:
    actor = rollout_actor(Vllm(held))
    with pytest.raises(EngineError) as caught:
        actor.finish_weight_update(3)
    assert str(caught.value) == f"after the sync of weights version 3, rollout-1 has {held}"
    with pytest.raises(EngineError, match="holds weights version 2, not 3"):
        actor.submit("call", 3, [])


def test_where_an_engine_dies_all_are_started_again_and_sent_to_once_more() -> None:
    both = Both(deaths=1)
    sync(both)
    assert both.calls == ["send 3", "start over: an engine died", *WHOLE]


def test_one_that_dies_before_it_is_resumed_is_no_different() -> None:
    both = Both(dies_at_resume=1)
    sync(both)
    assert both.calls == [*WHOLE, "start over: an engine died", *WHOLE]


def test_ranks_that_wait_for_each_other_are_not_asked_again() -> None:
    both = Both(deaths=1, may_send_again=False)
    with pytest.raises(ActorDied):
        sync(both)
    assert both.calls == ["send 3"]


def test_where_no_engine_died_it_was_the_policy() -> None:
    both = Both(deaths=1)
    both.start_over = lambda why: False  # type: ignore[method-assign]
    with pytest.raises(ActorDied):
        sync(both)


def test_an_engine_that_starts_again_alone_is_sent_what_the_others_have() -> None:
    both = Both()
    sync(both)
    both.calls.clear()
    both.give_weights(1)
    assert both.calls == ["send again to 1", "resume [1]"]
