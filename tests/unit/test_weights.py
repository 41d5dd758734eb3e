"""A sync: pause, send, check versions, resume; where anything fails, the engines stay paused."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from rapo_ray.errors import EngineError
from rapo_ray.weights import PolicyToEngines

pytestmark = pytest.mark.unit


@dataclass
class Both:
    """The policy's side and the engines' side, one log of calls."""

    versions: Sequence[str] = ()
    fails_at: str = ""
    calls: list[str] = field(default_factory=list)

    def _note(self, call: str) -> None:
        self.calls.append(call)
        if call.startswith(self.fails_at or "never"):
            raise EngineError(f"{call} failed")

    def pause(self) -> None:
        self._note("pause")

    def send_weights(self, version: int) -> None:
        self._note(f"send {version}")

    def weight_versions(self) -> list[str]:
        self._note("versions")
        return list(self.versions)

    def resume(self) -> None:
        self._note("resume")


def sync(both: Both, version: int = 3) -> None:
    PolicyToEngines(both, both).sync(version)


def test_the_order() -> None:
    both = Both(versions=["3", "3"])
    sync(both)
    assert both.calls == ["pause", "send 3", "versions", "resume"]


@pytest.mark.parametrize("found", ["2", "4", "", "03", "None"])
def test_an_engine_with_another_version_is_named_and_never_resumed(found: str) -> None:
    both = Both(versions=["3", found, "3"])
    with pytest.raises(EngineError) as caught:
        sync(both)
    assert str(caught.value) == f"after the sync of weights version 3: engine 1 has {found}"
    assert both.calls == ["pause", "send 3", "versions"]


@pytest.mark.parametrize(
    ("step", "calls"),
    [("pause", ["pause"]), ("send", ["pause", "send 3"]), ("versions", ["pause", "send 3", "versions"])],
)
def test_whatever_fails_the_engines_are_not_resumed(step: str, calls: list[str]) -> None:
    both = Both(versions=["3"], fails_at=step)
    with pytest.raises(EngineError, match=f"^{calls[-1]} failed$"):
        sync(both)
    assert both.calls == calls
