"""A sync: pause, send, check versions, resume; where anything fails, the engines stay paused."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from rapo_ray.errors import ActorDied, EngineError
from rapo_ray.weights import PolicyToEngines

pytestmark = pytest.mark.unit


@dataclass
class Both:
    """The policy's side and the engines' side, one log of calls."""

    versions: Sequence[str] = ()
    fails_at: str = ""
    deaths: int = 0  # times that an engine dies while weights are sent
    dead: bool = False
    may_send_again: bool = True
    version: int = -1
    give_weights: Callable[[int], None] = lambda engine: None
    calls: list[str] = field(default_factory=list)

    @property
    def all(self) -> Sequence[int]:
        return range(len(self.versions))

    def _note(self, call: str) -> None:
        self.calls.append(call)
        if call.startswith(self.fails_at or "never"):
            raise EngineError(f"{call} failed")

    def on(self, engines: Sequence[int], method: str, *arguments: object) -> list[Any]:
        self._note(f"{method} {list(engines)}")
        return [self.versions[engine] for engine in engines]

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


WHOLE = ["pause [0, 1]", "send 3", "weight_version [0, 1]", "resume [0, 1]"]


def test_the_order() -> None:
    both = Both(versions=["3", "3"])
    sync(both)
    assert both.calls == WHOLE
    assert both.version == 3


@pytest.mark.parametrize("found", ["2", "4", "", "03", "None"])
def test_an_engine_with_another_version_is_named_and_never_resumed(found: str) -> None:
    both = Both(versions=["3", found])
    with pytest.raises(EngineError) as caught:
        sync(both)
    assert str(caught.value) == f"after the sync of weights version 3: engine 1 has {found}"
    assert both.calls == WHOLE[:3]
    assert both.version == -1


@pytest.mark.parametrize(("step", "count"), [("pause", 1), ("send", 2), ("weight_version", 3)])
def test_whatever_fails_the_engines_are_not_resumed(step: str, count: int) -> None:
    both = Both(versions=["3", "3"], fails_at=step)
    with pytest.raises(EngineError, match=f"^{step}.* failed$"):
        sync(both)
    assert both.calls == WHOLE[:count]


def test_where_an_engine_dies_all_are_started_again_and_sent_to_once_more() -> None:
    both = Both(versions=["3", "3"], deaths=1)
    sync(both)
    assert both.calls == ["pause [0, 1]", "send 3", "start over: an engine died", *WHOLE]


def test_ranks_that_wait_for_each_other_are_not_asked_again() -> None:
    both = Both(versions=["3", "3"], deaths=1, may_send_again=False)
    with pytest.raises(ActorDied):
        sync(both)
    assert both.calls == ["pause [0, 1]", "send 3"]


def test_where_no_engine_died_it_was_the_policy() -> None:
    both = Both(versions=["3", "3"], deaths=1)
    both.start_over = lambda why: False  # type: ignore[method-assign]
    with pytest.raises(ActorDied):
        sync(both)


def test_an_engine_that_starts_again_alone_is_sent_what_the_others_have() -> None:
    both = Both(versions=["3", "3"])
    sync(both)
    both.calls.clear()
    both.give_weights(1)
    assert both.calls == ["pause [1]", "send again to 1", "weight_version [1]", "resume [1]"]
