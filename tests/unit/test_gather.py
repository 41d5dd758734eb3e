"""Gathering without Ray: calls that finish in any order, engines that hang or die, verdicts joined from panels."""

from collections.abc import Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rapo_ray.config.run import LimitsConfig
from rapo_ray.errors import ActorDied, DataError, EngineError
from rapo_ray.judging.gather import Answer, VerdictGathering
from rapo_ray.orchestrator.dispatch import Batches, Dispatch, SampleRequest
from rapo_ray.orchestrator.gather import Outcome, RolloutGathering
from rapo_ray.types import Case, Decision, Response, Rollout, Sampling, Status, Verdict
from tests.make import make_completion, make_prompt, make_rollout

pytestmark = pytest.mark.unit

SAMPLING = Sampling(1.0, 1.0, 8, None, logprobs=True)
LIMITS = LimitsConfig(silence=20, generate=60)


def dispatch(groups: int, engines: int, samples: int = 2, capacity: int = 4) -> Dispatch:
    requests = [
        [SampleRequest(group, make_prompt(group), sample, 0, SAMPLING) for sample in range(samples)]
        for group in range(groups)
    ]
    return Dispatch(requests, engines, capacity)


def rollouts_of(requests: Iterable[SampleRequest]) -> list[Rollout]:
    return [make_rollout(request.group, request.sample) for request in requests]


@dataclass
class Engines:
    """Engines that finish what they were handed, one completion a collecting call; `script` sets exceptions.

    `script` maps the number of a call to `hang` (never finishes), `silent` (heartbeats without completions) or an
    error that the call ends with.
    """

    script: dict[int, object] = field(default_factory=dict)
    handed: dict[int, list[SampleRequest]] = field(default_factory=dict)
    calls: list[tuple[int, bool]] = field(default_factory=list)
    recovered: list[tuple[int, str]] = field(default_factory=list)
    now: float = 0.0

    def begin(self, engine: int, batches: Batches, collects: bool) -> Hashable:
        self.handed.setdefault(engine, []).extend(request for batch in batches for request in batch)
        self.calls.append((engine, collects))
        return len(self.calls) - 1

    def finished(self, calls: Collection[Hashable]) -> list[tuple[Hashable, Outcome]]:
        self.now += 1.0
        return [(call, self._outcome(call)) for call in calls if self.script.get(int(str(call))) != "hang"]

    def _outcome(self, call: Hashable) -> Outcome:
        engine, collects = self.calls[int(str(call))]
        scripted = self.script.get(int(str(call)))
        if isinstance(scripted, EngineError):
            return scripted
        if isinstance(scripted, Exception):
            raise scripted
        if not collects:
            return None
        return [] if scripted == "silent" else rollouts_of([self.handed[engine].pop(0)])

    def recover(self, engine: int, why: str) -> None:
        self.recovered.append((engine, why))
        self.handed[engine] = []
        if len(self.recovered) > 3:
            raise ActorDied(f"rollout-{engine} was lost too often: {why}")


def gather(engines: Engines, work: Dispatch, count: int) -> list[tuple[int, int]]:
    batches = RolloutGathering(engines, work, count, LIMITS, lambda: engines.now).batches()
    return [rollout.key for batch in batches for rollout in batch]


def test_every_completion_comes_once() -> None:
    assert sorted(gather(Engines(), dispatch(6, 2), 2)) == [(group, sample) for group in range(6) for sample in (0, 1)]


def test_an_engine_without_work_is_left_alone() -> None:
    engines = Engines()
    gather(engines, dispatch(1, 3), 3)
    assert {engine for engine, _ in engines.calls} == {0}


def test_an_engine_that_fails_is_recovered_and_its_completions_are_sampled_again() -> None:
    engines = Engines({0: EngineError("the process is gone")})
    assert sorted(gather(engines, dispatch(4, 2), 2)) == [(group, sample) for group in range(4) for sample in (0, 1)]
    assert engines.recovered == [(0, "the process is gone")]


def test_no_answer_is_a_hang_after_the_silence_limit() -> None:
    engines = Engines({0: "hang"})
    gather(engines, dispatch(1, 1), 1)
    assert engines.recovered == [(0, "no answer in limits.silence=20 s")]


def test_heartbeats_without_completions_are_a_hang_after_the_generate_limit() -> None:
    engines = Engines(dict.fromkeys(range(1000), "silent"))
    with pytest.raises(ActorDied):  # it hangs however often it is started again
        gather(engines, dispatch(1, 1), 1)
    assert engines.recovered[0] == (0, "no completion in limits.generate=60 s")


def test_a_bad_prompt_is_no_lost_engine() -> None:
    engines = Engines({0: DataError("prompt s/0 has 9 tokens")})
    with pytest.raises(DataError, match="9 tokens"):
        gather(engines, dispatch(1, 1), 1)
    assert engines.recovered == []


@given(failing=st.sets(st.integers(0, 12), max_size=3), groups=st.integers(1, 8), count=st.integers(1, 3))
def test_whichever_calls_fail_nothing_is_lost_or_doubled(failing: set[int], groups: int, count: int) -> None:
    engines = Engines({call: EngineError("gone") for call in failing})
    keys = gather(engines, dispatch(groups, count), count)
    assert sorted(keys) == [(group, sample) for group in range(groups) for sample in (0, 1)]


@dataclass
class Judges:
    """Judges whose calls finish in the order that `order` gives, one at a time."""

    newest_first: bool = False
    dead: bool = False
    decision: Decision | None = None  # of every trace
    calls: dict[int, tuple[int, int, list[Response]]] = field(default_factory=dict)

    def submit(self, panel: int, judge: int, responses: Sequence[Response]) -> Hashable:
        self.calls[len(self.calls)] = (panel, judge, list(responses))
        return len(self.calls) - 1

    def finished(self, calls: Collection[Hashable], seconds: float) -> list[tuple[Hashable, list[Answer]]]:
        if self.dead or not seconds:
            return []
        call = (max if self.newest_first else min)(int(str(call)) for call in calls)
        panel, judge, responses = self.calls[call]
        return [(call, [(make_completion(), self._verdict(panel, judge)) for _ in responses])]

    def _verdict(self, panel: int, judge: int) -> Verdict:
        verdict = Verdict(Status.OK, f"panel {panel} judge {judge}")
        if self.decision is not None:
            return replace(verdict, case=Case.ADEQUATE, risk=1.0, decision=self.decision, consistent=True)
        return replace(verdict, risk=1.0) if panel == 0 else replace(verdict, general=1.0)


BATCHES = [[Response(group, sample, f"s/{group}", "text", False) for sample in (0, 1)] for group in range(4)]


@pytest.mark.parametrize("newest_first", [False, True])
def test_two_panels_make_one_verdict_in_whichever_order_they_answer(newest_first: bool) -> None:
    judges = Judges(newest_first)
    judged = list(VerdictGathering(judges, [2, 1], 0.0, 60.0, True).score(BATCHES))
    assert sorted((response.group, response.sample) for response, _, _ in judged) == [
        (group, sample) for group in range(4) for sample in (0, 1)
    ]
    assert all((verdict.risk, verdict.general) == (1.0, 1.0) for _, _, verdict in judged)


def test_a_prompt_s_samples_go_to_one_judge_of_each_panel() -> None:
    judges = Judges()
    list(VerdictGathering(judges, [2, 1], 0.0, 60.0, True).score(BATCHES))
    seats = {(panel, response.group): judge for panel, judge, some in judges.calls.values() for response in some}
    assert seats == {(panel, group): group % 2 if panel == 0 else 0 for panel in (0, 1) for group in range(4)}


def test_a_second_opinion_is_kept_beside_the_verdict_and_waited_for() -> None:
    judged = list(VerdictGathering(Judges(), [1, 1], 1.0, 60.0, True).score(BATCHES))
    assert all(verdict.second is not None and verdict.second.general == 1.0 for _, _, verdict in judged)
    assert all(verdict.risk == 1.0 and verdict.general is None for _, _, verdict in judged)


@pytest.mark.parametrize("counts", [True, False])
def test_first_and_second_verdicts_are_held_to_the_answer(counts: bool) -> None:
    judged = list(VerdictGathering(Judges(decision=Decision.REFUSE), [1, 1], 1.0, 60.0, counts).score(BATCHES))
    case, risk = (Case.CONTRADICTORY, -1.0) if counts else (Case.ADEQUATE, 1.0)  # the answer helps
    for _, _, verdict in judged:
        assert verdict.second is not None
        assert [(one.consistent, one.case, one.risk) for one in (verdict, verdict.second)] == [(False, case, risk)] * 2


def test_judges_that_never_answer_end_in_one_line() -> None:
    with pytest.raises(EngineError, match=r"^4 calls of judges did not end in limits\.judge=60 s: see their logs$"):
        list(VerdictGathering(Judges(dead=True), [1], 0.0, 60.0, True).score(BATCHES))
