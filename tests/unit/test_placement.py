"""Placement: the reservation of each actor, its fit in the cluster, and a wait that reports and gives up."""

import itertools
from collections.abc import Sequence

import pytest
from pydantic import ValidationError

from actors.placement import Bundle, Plan, Role, Slot, bundles_of, check_fits, describe, plan, wait_for
from rapo_ray.config import RunConfig
from rapo_ray.errors import PlacementError

pytestmark = pytest.mark.unit


def takes(slots: Sequence[Slot]) -> dict[str, Bundle]:
    """Reservations of the actors by name."""
    return {slot.name: slot.takes for slot in slots}


def config(**sections: object) -> RunConfig:
    return RunConfig.model_validate(sections)


VLLM = {"backend": "vllm", "model": "org/judge", "tensor_parallel": 2}


def test_the_plan_of_a_gpu_run_by_hand() -> None:
    made = plan(
        config(
            rollout={"engines": 2, "tensor_parallel": 4},
            judge={"risk": {**VLLM, "actors": 2}, "general": {"backend": "rules"}},
            policy={"ranks": 2},
            reference={"actors": 2},
            cluster={"cpus_per_actor": 0.5},
        )
    )
    assert takes(made.inference) == {
        "rollout-0": {"CPU": 0.5, "GPU": 4.0},
        "rollout-1": {"CPU": 0.5, "GPU": 4.0},
        "judge-risk-0": {"CPU": 0.5, "GPU": 2.0},
        "judge-risk-1": {"CPU": 0.5, "GPU": 2.0},
        "judge-general-0": {"CPU": 0.5},
    }
    assert takes(made.training) == {
        "policy-0": {"CPU": 0.5, "GPU": 1.0},
        "policy-1": {"CPU": 0.5, "GPU": 1.0},
        "reference-0": {"CPU": 0.5, "GPU": 1.0},
        "reference-1": {"CPU": 0.5, "GPU": 1.0},
    }
    assert (made.total("CPU"), made.total("GPU"), made.total("TPU")) == (4.5, 16.0, 0.0)


def test_on_cpu_nobody_asks_for_a_gpu() -> None:
    made = plan(config(cluster={"device": "cpu"}, judge={"risk": {"backend": "vllm", "model": "m"}}))
    assert made.total("GPU") == 0
    assert list(takes(made.inference)) == ["rollout-0", "judge-risk-0"]


def test_without_a_kl_there_is_no_reference() -> None:
    assert list(takes(plan(config(policy={"kl_coef": 0.0})).training)) == ["policy-0"]
    assert list(takes(plan(config(policy={"kl_coef": 0.1})).training)) == ["policy-0", "reference-0"]


def test_a_rules_judge_takes_no_gpu_whatever_its_tensor_parallel() -> None:
    made = plan(config(judge={"risk": {"backend": "rules", "tensor_parallel": 2}}))
    assert takes(made.inference)["judge-risk-0"] == {"CPU": 1.0}


def test_small_shares_add_up_exactly() -> None:
    made = plan(config(cluster={"cpus_per_actor": 0.1, "device": "cpu"}, policy={"ranks": 7}))
    assert made.total("CPU") == 1.0
    check_fits(made, [{"CPU": 1.0}])


BIG = Plan((Slot(Role.ROLLOUT, 0, {"CPU": 1.0, "GPU": 2.0}),), (Slot(Role.POLICY, 0, {"CPU": 1.0, "GPU": 1.0}),))


@pytest.mark.parametrize(
    ("there", "words"),
    [
        ({"CPU": 2.0, "GPU": 2.0}, ["needs 3 GPUs", "has 2", "cluster.device=cpu"]),
        ({"CPU": 2.0}, ["needs 3 GPUs", "has 0"]),
        ({"CPU": 1.5, "GPU": 3.0}, ["needs 2 CPUs", "has 1.5", "lower cluster.cpus_per_actor"]),
        ({}, ["needs 3 GPUs", "has 0"]),
    ],
)
def test_too_small_a_cluster_is_refused_with_numbers_and_a_way_out(there: Bundle, words: list[str]) -> None:
    with pytest.raises(PlacementError) as caught:
        check_fits(BIG, [there])
    assert len(str(caught.value).splitlines()) == 1
    for word in words:
        assert word in str(caught.value)


def test_an_engine_that_no_node_holds_is_refused_though_all_together_have_enough() -> None:
    with pytest.raises(PlacementError) as caught:
        check_fits(BIG, [{"CPU": 1.0, "GPU": 1.0}] * 3)
    assert str(caught.value) == (
        "rollout-0 and those beside it need 2 GPUs and 1 CPUs on one node, and no node has them: lower "
        "rollout.tensor_parallel, judge.*.tensor_parallel or cluster.cpus_per_actor"
    )


def test_a_cluster_that_is_just_large_enough_fits() -> None:
    check_fits(BIG, [{"CPU": 1.0, "GPU": 2.0}, {"CPU": 1.0, "GPU": 1.0}])
    check_fits(Plan(()), [])


def test_the_table_names_every_role_and_the_sum() -> None:
    lines = [line.split() for line in describe(BIG).splitlines()]
    assert lines[1:] == [
        ["rollout", "1", "1", "2"],
        ["policy", "1", "1", "1"],
        ["all", "2", "2", "in", "all", "3", "in", "all"],
    ]
    judged = plan(config(cluster={"device": "cpu"}, judge={"risk": {"backend": "rules", "actors": 3}}))
    assert ["judge-risk", "3", "1", "0"] in [line.split() for line in describe(judged).splitlines()]


class Clock:
    """Time that passes only while `ready` waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, ready_after: float) -> None:
        self.now = 1000.0
        self.waits: list[float] = []
        self._ready_at = self.now + ready_after
        monkeypatch.setattr("actors.placement.time.monotonic", lambda: self.now)

    def ready(self, seconds: float) -> bool:
        self.waits.append(seconds)
        self.now += min(seconds, max(0.0, self._ready_at - self.now))
        return self.now >= self._ready_at


def test_a_wait_that_is_short_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    clock = Clock(monkeypatch, ready_after=9.0)
    wait_for(clock.ready, lambda: "waiting for 4 GPUs", 60.0, lines.append)
    assert lines == []
    assert clock.now == 1009.0


def test_a_long_wait_says_what_it_waits_for_every_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    left = itertools.count()
    clock = Clock(monkeypatch, ready_after=25.0)
    wait_for(clock.ready, lambda: f"waiting, look {next(left)}", 60.0, lines.append)
    assert lines == ["waiting, look 0, 10 s so far", "waiting, look 1, 20 s so far"]


@pytest.mark.parametrize(("limit", "waits"), [(25.0, [10.0, 10.0, 5.0]), (3.0, [3.0]), (10.0, [10.0])])
def test_a_wait_ends_at_its_limit_and_names_it(
    limit: float, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch, ready_after=1e9)
    with pytest.raises(PlacementError) as caught:
        wait_for(clock.ready, lambda: "waiting for 4 GPUs (2 free)", limit, lambda text: None)
    assert str(caught.value) == f"gave up after {limit:.0f} s (limits.start={limit:g}): waiting for 4 GPUs (2 free)"
    assert clock.waits == waits


def test_a_wait_gives_up_on_the_real_clock_too() -> None:
    with pytest.raises(PlacementError, match=r"limits\.start=0\.01"):
        wait_for(lambda seconds: False, lambda: "waiting", 0.01, lambda text: None)


def test_a_judge_that_shares_gpus_lives_in_the_engine_s_bundle() -> None:
    shared = {"backend": "vllm", "model": "m", "memory_share": 0.3, "share_rollout_gpu": True}
    made = plan(config(rollout={"engines": 2, "memory_share": 0.6}, judge={"risk": {**shared, "actors": 2}}))
    assert takes(made.inference) == {
        name: {"CPU": 1.0, "GPU": 1.0} for name in ("rollout-0", "rollout-1", "judge-risk-0", "judge-risk-1")
    }
    bundles, index = bundles_of(made.inference)
    assert bundles == [{"CPU": 2.0, "GPU": 1.0}] * 2
    assert index == {"rollout-0": 0, "rollout-1": 1, "judge-risk-0": 0, "judge-risk-1": 1}
    assert made.total("GPU") == 4.0  # two for the engines and judges, one each for policy and reference


def test_behind_an_endpoint_a_judge_that_would_share_a_gpu_has_a_bundle_of_its_own() -> None:
    shared = {"backend": "vllm", "model": "m", "memory_share": 0.3, "share_rollout_gpu": True}
    wanted = plan(config(rollout={"memory_share": 0.6}, judge={"risk": shared})).inference_only(engines=False)
    assert takes(wanted.inference) == {"judge-risk-0": {"CPU": 1.0, "GPU": 1.0}}
    assert bundles_of(wanted.inference) == ([{"CPU": 1.0, "GPU": 1.0}], {"judge-risk-0": 0})


def test_without_sharing_every_actor_has_a_bundle_of_its_own() -> None:
    made = plan(config(judge={"risk": VLLM}))
    bundles, index = bundles_of(made.inference)
    assert bundles == [slot.takes for slot in made.inference]
    assert index == {"rollout-0": 0, "judge-risk-0": 1}


@pytest.mark.parametrize(
    ("rollout", "judge", "message"),
    [
        ({}, {"memory_share": 0.3}, "add up to 1.15, more than 0.95"),
        ({"memory_share": 0.5}, {"memory_share": 0.3, "actors": 2}, "at most one beside each engine"),
        ({"memory_share": 0.5}, {"memory_share": 0.3, "tensor_parallel": 2}, "rollout.tensor_parallel=1 .it is 2"),
        ({"memory_share": 0.5}, {"memory_share": 0.3, "backend": "rules", "model": None}, "needs backend=vllm"),
    ],
)
def test_impossible_sharing_is_refused(rollout: dict[str, object], judge: dict[str, object], message: str) -> None:
    shared = {"backend": "vllm", "model": "m", "share_rollout_gpu": True}
    with pytest.raises(ValidationError, match=message):
        config(rollout=rollout, judge={"risk": {**shared, **judge}})


COLOCATED: dict[str, dict[str, object]] = {
    "rollout": {"engines": 2, "colocate": True},
    "policy": {"ranks": 2},
    "judge": {"risk": {"backend": "rules"}},
}


def test_in_the_time_shared_layout_only_engines_reserve_gpus() -> None:
    judge = {"backend": "vllm", "model": "m", "memory_share": 0.3, "actors": 2}
    made = plan(
        config(
            rollout={"engines": 2, "tensor_parallel": 2, "colocate": True, "memory_share": 0.5},
            policy={"ranks": 4},
            judge={"risk": judge, "second": {"backend": "rules"}, "second_share": 0.5},
        )
    )
    assert (made.total("GPU"), made.total("CPU")) == (4.0, 9.0)
    assert {slot.name: (slot.host, slot.card) for slot in (*made.inference, *made.training)} == {
        "rollout-0": (None, None),
        "rollout-1": (None, None),
        "judge-risk-0": ("rollout-0", None),
        "judge-risk-1": ("rollout-1", None),
        "judge-second-0": (None, None),
        "policy-0": ("rollout-0", 0),
        "policy-1": ("rollout-0", 1),
        "policy-2": ("rollout-1", 0),
        "policy-3": ("rollout-1", 1),
    }
    bundles, _ = bundles_of((*made.inference, *made.training))
    assert bundles == [{"CPU": 4.0, "GPU": 2.0}] * 2 + [{"CPU": 1.0}]
    table = [line.split() for line in describe(made).splitlines()]
    assert ["policy", "4", "1", "1", "(shared)"] in table


@pytest.mark.parametrize(
    ("section", "change"),
    [
        ("rollout", {"tensor_parallel": 2}),
        ("rollout", {"staleness": 1}),
        ("policy", {"ranks": 3}),
        ("policy", {"zero_stage": 1}),
        ("reference", {"actors": 3}),
    ],
)
def test_what_cannot_take_turns_is_one_line(section: str, change: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=r"rollout\.colocate"):
        config(**{"checkpoint": {"every": 2}, **COLOCATED, section: {**COLOCATED.get(section, {}), **change}})
