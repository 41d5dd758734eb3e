"""Settings and calls that only a GPU can run, held as far as a fake can: sleep and wake, ranks, graphs."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from actors.training_group import PolicyAsReference, PolicyGroup, SharedCards
from rapo_ray.config import RunConfig
from rapo_ray.config.learning import PolicyConfig
from rapo_ray.config.run import LimitsConfig
from rapo_ray.errors import ActorDied
from rapo_ray.trainer.deepspeed_setup import deepspeed_config, gathered_on

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("device", "setting", "eager"),
    [("gpu", None, False), ("cpu", None, True), ("gpu", True, True), ("cpu", False, False)],
)
def test_graphs_are_captured_on_gpus_unless_the_config_says_otherwise(
    device: str, setting: bool | None, eager: bool
) -> None:
    config = RunConfig.model_validate({"cluster": {"device": device}, "rollout": {"enforce_eager": setting}})
    assert config.eager is eager


@dataclass
class Rank:
    """An actor handle whose calls are noted and done at once."""

    log: list[str]

    def __getattr__(self, method: str) -> Any:
        return Call(method, self.log)


@dataclass
class Call:
    method: str
    log: list[str]

    def remote(self, *arguments: object) -> dict[str, float]:
        self.log.append(self.method)
        return {"tokens": 1.0}


class Cards:
    """The inference side of shared cards, noted in the same log."""

    def __init__(self, log: list[str]) -> None:
        self._log = log

    def free(self) -> None:
        self._log.append("engines and judges sleep")

    def wake_judges(self) -> None:
        self._log.append("judges wake")


def test_a_policy_on_shared_cards_takes_them_for_reference_and_update_and_leaves_for_the_engines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("actors.training_group.get_all", lambda refs, *limits: refs)
    log: list[str] = []
    cards: Any = Cards(log)
    group = PolicyGroup([Rank(log)], PolicyConfig(), LimitsConfig(), cards)
    for version in range(2):
        group.send_weights(version)
        group.resend(0)
        PolicyAsReference(group, 64, 64).attach_logprobs([])
        group.update([])
    one_round = [
        *("leave_card", "send_weights", "judges wake", "send_weights"),
        *("engines and judges sleep", "return_to_card", "reference_logprobs", "update"),
    ]
    assert log == one_round * 2


class Rollouts:
    """Engines of which one has died since its last completion."""

    def __init__(self) -> None:
        self.engines = self
        self.log: list[str] = []

    def sleep(self) -> None:
        self.log.append("sleep")
        if "restart all" not in self.log:
            raise ActorDied("sleep failed, an actor died")

    def wake(self) -> None:
        self.log.append("wake")

    def restart_all(self, why: str) -> bool:
        self.log.append("restart all")
        return True


def test_an_engine_that_died_before_the_turn_is_restarted_and_put_to_sleep() -> None:
    rollouts: Any = Rollouts()
    SharedCards(rollouts, rollouts).free()
    assert rollouts.log == ["sleep", "restart all", "sleep", "sleep"]  # the last is the judges'


def test_a_policy_on_its_own_cards_never_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.training_group.get_all", lambda refs, *limits: refs)
    log: list[str] = []
    group = PolicyGroup([Rank(log)], PolicyConfig(), LimitsConfig())
    group.update([])
    group.send_weights(1)
    assert log == ["update", "send_weights"]


@pytest.mark.parametrize("gpu", [True, False])
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_communication_overlaps_arithmetic_where_deepspeed_can(
    gpu: bool, stage: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    config = deepspeed_config(PolicyConfig.model_validate({"zero_stage": stage}), 1e-6, 2)
    assert config["zero_optimization"]["overlap_comm"] is (gpu and stage >= 2)


def test_only_the_rank_that_writes_keeps_what_all_gather() -> None:
    import torch

    kept_alive: list[Any] = []

    def weights() -> Any:
        for name in ("a", "b"):
            tensor = torch.ones(2)
            kept_alive.append(tensor)
            yield name, tensor

    assert gathered_on(False, weights()) == {}
    assert len(kept_alive) == 2, "a rank that does not gather along leaves the others waiting"
    assert list(gathered_on(True, weights())) == ["a", "b"]


@dataclass
class Llm:
    """vLLM's engine, as far as it sleeps and takes weights."""

    calls: list[str] = field(default_factory=list)

    def sleep(self, level: int) -> None:
        self.calls.append(f"sleep {level}")

    def wake_up(self, tags: list[str]) -> None:
        self.calls.append(f"wake {' '.join(tags)}")

    def reset_prefix_cache(self, reset_running_requests: bool) -> bool:
        self.calls.append("reset")
        return True

    def __getattr__(self, method: str) -> Any:
        return lambda *arguments: self.calls.append(method)


def test_a_sleeping_engine_wakes_for_the_weights_first_and_for_the_cache_last() -> None:
    import threading

    from rapo_ray.engines.vllm_engine import VllmEngine

    engine = VllmEngine.__new__(VllmEngine)
    engine._llm = llm = Llm()
    engine._wakeup, engine._stepping = threading.Condition(), threading.Lock()
    engine._paused = engine._asleep = False
    engine._sleeps = True
    engine.sleep(level=2)
    engine.start_weight_update()
    engine.update_weights({})
    engine.finish_weight_update(3)
    assert llm.calls == [
        "sleep 2", "wake weights", "start_weight_update", "update_weights", "finish_weight_update",
        "wake kv_cache", "reset",
    ]  # fmt: skip
    llm.calls.clear()
    engine.start_weight_update()
    engine.finish_weight_update(4)
    assert llm.calls == ["start_weight_update", "finish_weight_update", "reset"]
