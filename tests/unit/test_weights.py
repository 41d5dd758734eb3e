"""A sync: pause, send, check the version, resume; where anything fails, the engine stays paused."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from actors.rollout import RolloutActor
from rapo_ray.errors import ActorDied, EngineError
from rapo_ray.orchestrator.weight_sync import PolicyToEngines

pytestmark = pytest.mark.unit


@dataclass
class Both:
    """The policy's side and the engines' side, one log of calls."""

    fails_at: str = ""
    deaths: int = 0  # times that an engine dies while weights are sent
    dead: bool = False
    can_resend: bool = True
    version: int = -1
    restore_weights: Callable[[int], None] = lambda engine: None
    calls: list[str] = field(default_factory=list)

    def _note(self, call: str) -> None:
        self.calls.append(call)
        if call.startswith(self.fails_at or "never"):
            raise EngineError(f"{call} failed")

    def send_weights(self, version: int) -> None:
        self._note(f"send {version}")
        if self.deaths:
            self.deaths -= 1
            self.dead = True
            raise ActorDied("an engine died")

    def resend(self, engine: int) -> None:
        self._note(f"send again to {engine}")

    def restart_all(self, why: str) -> bool:
        self._note(f"start over: {why}")
        revived, self.dead = self.dead, False
        return revived


def sync(both: Both, version: int = 3) -> None:
    PolicyToEngines(both, both).sync(version)


def test_what_was_sent_is_what_engines_are_asked_for() -> None:
    both = Both()
    sync(both)
    assert both.calls == ["send 3"]
    assert both.version == 3


def test_where_sending_fails_the_engines_are_not_asked_for_it() -> None:
    both = Both(fails_at="send")
    with pytest.raises(EngineError, match=r"^send 3 failed$"):
        sync(both)
    assert both.calls == ["send 3"]
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


def test_an_engine_pauses_before_its_weights_change_and_steps_again_with_them() -> None:
    vllm = Vllm("3")
    actor = rollout_actor(vllm)
    actor.start_weight_update()
    actor.finish_weight_update(3)
    assert vllm.calls == ["pause", "start_weight_update", "finish_weight_update", "resume"]
    assert actor._version == 3


@pytest.mark.parametrize("held", ["2", "4", "", "03", "None"])
def test_an_engine_that_holds_another_version_says_so_and_does_not_sample_with_it(held: str) -> None:
    vllm = Vllm(held)
    actor = rollout_actor(vllm)
    with pytest.raises(EngineError) as caught:
        actor.finish_weight_update(3)
    assert "resume" not in vllm.calls
    assert str(caught.value) == f"after the sync of weights version 3, rollout-1 has {held}"
    with pytest.raises(EngineError, match="holds weights version 2, not 3"):
        actor.submit("call", 3, [])


def test_where_an_engine_dies_all_are_started_again_and_sent_to_once_more() -> None:
    both = Both(deaths=1)
    sync(both)
    assert both.calls == ["send 3", "start over: an engine died", "send 3"]


def test_ranks_that_wait_for_each_other_are_not_asked_again() -> None:
    both = Both(deaths=1, can_resend=False)
    with pytest.raises(ActorDied):
        sync(both)
    assert both.calls == ["send 3"]


def test_where_no_engine_died_it_was_the_policy() -> None:
    both = Both(deaths=1)
    both.restart_all = lambda why: False  # type: ignore[method-assign]
    with pytest.raises(ActorDied):
        sync(both)


def test_an_engine_that_starts_again_alone_is_sent_what_the_others_have() -> None:
    both = Both()
    sync(both)
    both.calls.clear()
    both.restore_weights(1)
    assert both.calls == ["send again to 1"]
