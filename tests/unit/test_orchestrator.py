"""The order of a round, with hand-written roles that write down when they were called."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rapo_ray.config import RunConfig
from rapo_ray.errors import EngineError, JudgeError
from rapo_ray.orchestrator.collect import RoundCollector
from rapo_ray.orchestrator.prefetch import RolloutPrefetcher
from rapo_ray.orchestrator.round import build_sequences, check_failures, run_round
from rapo_ray.roles import Inference, Learner, Progress, Responses, Saved
from rapo_ray.types import Completion, Prompt, Response, Rollout, RoundResult, Sequence, UpdateResult, Verdict
from tests.make import failed, make_completion, make_group, make_prompt, make_rollout, scored

pytestmark = pytest.mark.unit

VERSION = 6
Judgement = Callable[[Response], Verdict]


def by_sample(response: Response) -> Verdict:
    return scored(2.0 if response.sample else -2.0)


def all_alike(response: Response) -> Verdict:
    return scored(1.0)


@dataclass
class World:
    """All five roles at once; `order` gives the completions in the order in which they arrive."""

    judgement: Judgement = by_sample
    version: int = VERSION
    order: Callable[[list[Rollout]], list[Rollout]] = lambda rollouts: rollouts
    calls: list[str] = field(default_factory=list)
    trained: list[Sequence] = field(default_factory=list)
    synced: list[int] = field(default_factory=list)
    update_error: Exception | None = None
    saving: bool = False

    def generate(self, prompts_P: list[Prompt], samples: range, round_number: int) -> Iterator[list[Rollout]]:
        rollouts = [
            make_rollout(group, sample, self.version, prompt.id, (10 + group, 20 + sample))
            for group, prompt in enumerate(prompts_P)
            for sample in samples
        ]
        for rollout in self.order(rollouts):
            self.calls.append(f"generate {rollout.group}.{rollout.sample}")
            yield [rollout]

    def score(
        self, prompts_P: list[Prompt], batches: Iterable[Responses]
    ) -> Iterator[tuple[Response, Completion, Verdict]]:
        for (response,) in batches:
            assert prompts_P[response.group].id == response.prompt_id
            self.calls.append(f"judge {response.group}.{response.sample}")
            yield response, make_completion(), self.judgement(response)

    def attach_logprobs(self, sequences: list[Sequence]) -> list[Sequence]:
        self.calls.append("reference")
        return [replace(row, reference_logprobs=(-0.25,) * len(row.completion)) for row in sequences]

    def update(self, sequences: list[Sequence]) -> UpdateResult:
        self.calls.append("update")
        if self.update_error is not None:
            raise self.update_error
        self.trained = sequences
        return UpdateResult({"tokens": 1.0})

    def save(self, folder: Path) -> Saved:
        self.calls.append("save")
        return dict

    def wait_for_save(self) -> None:
        self.calls.append("wait")
        self.saving = False

    def sync(self, version: int) -> None:
        self.calls.append("sync")
        self.synced.append(version)

    def load(self, folder: Path) -> None:
        self.calls.append("load")

    def export(self, folder: Path, dtype: str) -> None:
        self.calls.append("export")

    def inference(self) -> Inference:
        return Inference(self, self)

    def learner(self, reference: bool = True) -> Learner:
        return Learner(self if reference else None, self, self)

    def phases(self) -> list[str]:
        """Calls without the single completions."""
        return [call for call in self.calls if " " not in call]


def config(samples: int = 2, budget: float = 0.2) -> RunConfig:
    return RunConfig.model_validate({"samples_per_prompt": samples, "judge": {"failure_budget": budget}})


def play(
    world: World,
    prompts_P: list[Prompt] | None = None,
    samples: int = 2,
    budget: float = 0.2,
    reference: bool = True,
    progress: Progress | None = None,
) -> RoundResult:
    prompts_P = [make_prompt(0), make_prompt(1)] if prompts_P is None else prompts_P
    return one_round(world, config(samples, budget), prompts_P, progress, reference)


class Prompts:
    """The same prompts for every round."""

    def __init__(self, prompts_P: list[Prompt]) -> None:
        self.prompts_P = prompts_P

    def next_batch(self, number: int) -> list[Prompt]:
        return self.prompts_P


def one_round(
    world: World,
    settings: RunConfig,
    prompts_P: list[Prompt],
    progress: Progress | None = None,
    reference: bool = True,
) -> RoundResult:
    """A round by itself, with nothing prefetched."""
    source = RolloutPrefetcher(Prompts(prompts_P), RoundCollector(world.inference(), settings), lambda number: False)
    return run_round(source, world.learner(reference), settings, VERSION + 1, progress or Progress())


def test_the_order_of_a_round() -> None:
    world = World()
    result = play(world)
    completions = [
        f"{what} {group}.{sample}" for group in (0, 1) for sample in (0, 1) for what in ("generate", "judge")
    ]
    assert world.calls == [*completions, "reference", "update", "sync"]  # each is judged the moment it ends
    assert world.synced == [VERSION + 1]
    assert (result.round_number, result.policy_version) == (VERSION + 1, VERSION)
    assert result.update.sums == {"tokens": 1.0}
    assert list(result.seconds) == ["generate_and_judge", "reference", "update", "sync"]


def test_the_policy_is_given_what_credit_and_the_reference_made() -> None:
    world = World()
    result = play(world)
    assert result.trained_sequences == 4
    assert [row.tokens for row in world.trained] == [(1, 2, 10, 20), (1, 2, 10, 21), (1, 2, 11, 20), (1, 2, 11, 21)]
    assert [row.advantage > 0 for row in world.trained] == [False, True, False, True]
    assert all(row.prompt == (1, 2) and len(row.completion) == 2 for row in world.trained)
    assert all(row.reference_logprobs == (-0.25, -0.25) for row in world.trained)
    assert all(row.rollout_logprobs == (-0.5, -0.5) for row in world.trained)
    advantages = [sample.advantage for group in result.groups_P for sample in group.samples_G]
    assert [row.advantage for row in world.trained] == advantages


def test_without_a_reference_none_is_asked() -> None:
    world = World()
    result = play(world, reference=False)
    assert world.phases() == ["update", "sync"]
    assert all(row.reference_logprobs is None for row in world.trained)
    assert "reference" not in result.seconds


def test_too_many_failed_verdicts_stop_the_round_before_any_update() -> None:
    world = World(judgement=lambda rollout: failed(detail="no reply in 5 s") if rollout.sample else scored(1.0))
    with pytest.raises(JudgeError) as caught:
        play(world, budget=0.49)
    assert world.phases() == []
    assert str(caught.value) == (
        "2 of 4 verdicts failed (2 timeout; first: no reply in 5 s), more than judge.failure_budget=0.49"
    )


def test_failures_within_the_budget_are_out_of_the_loss_and_kept_on_record() -> None:
    world = World(judgement=lambda rollout: failed() if rollout.sample == 2 else by_sample(rollout))
    result = play(world, samples=3, budget=1 / 3)
    assert [row.tokens[-1] for row in world.trained] == [20, 21, 20, 21]
    assert [sample.verdict.scorable for sample in result.groups_P[0].samples_G] == [True, True, False]
    assert [sample.reward for sample in result.groups_P[0].samples_G] == [-2.0, 2.0, None]


@given(total=st.integers(1, 300), data=st.data())
@settings(max_examples=60)
def test_exactly_the_budget_is_borne_and_one_more_is_not(total: int, data: st.DataObject) -> None:
    bad = data.draw(st.integers(0, total))
    groups_P = (make_group(*[failed()] * bad, *[scored(1.0)] * (total - bad)),)
    check_failures(groups_P, bad / total)
    if bad:
        with pytest.raises(JudgeError, match=f"^{bad} of {total} "):
            check_failures(groups_P, (bad - 1) / total)


def test_a_decimal_budget_is_taken_at_its_word() -> None:
    check_failures((make_group(*[failed()] * 29, *[scored(1.0)] * 71),), 0.29)  # 0.29 * 100 is less than 29


@pytest.mark.parametrize("stale", [VERSION - 1, VERSION + 1])
def test_a_rollout_of_other_weights_is_never_trained_on(stale: int) -> None:
    world = World(order=lambda rollouts: [*rollouts[:-1], replace(rollouts[-1], policy_version=stale)])
    with pytest.raises(EngineError, match=rf"\[{stale}\], the policy is at {VERSION}"):
        play(world)
    assert world.phases() == []


def test_a_lost_completion_stops_the_round() -> None:
    world = World(order=lambda rollouts: rollouts[1:])
    with pytest.raises(EngineError, match="round 7: 1 of 4 completions never came back"):
        play(world)
    assert world.phases() == []


def test_a_completion_that_comes_twice_does_not_stand_for_a_lost_one() -> None:
    world = World(order=lambda rollouts: [*rollouts[1:], rollouts[1]])
    with pytest.raises(EngineError, match=r"round 7: completion \(0, 1\) of \S+ came twice"):
        play(world)


@given(order=st.permutations(range(6)))
def test_groups_come_in_the_order_of_the_prompts_whatever_the_order_of_arrival(order: list[int]) -> None:
    world, calm = World(order=lambda rollouts: [rollouts[index] for index in order]), World()
    prompts_P = [make_prompt(number) for number in (5, 3, 4)]
    result = play(world, prompts_P)
    assert [group.prompt.id for group in result.groups_P] == ["s/5", "s/3", "s/4"]
    assert [[s.rollout.sample for s in group.samples_G] for group in result.groups_P] == [[0, 1]] * 3
    assert result.groups_P == play(calm, prompts_P).groups_P
    assert world.trained == calm.trained


def test_a_prompt_twice_in_a_round_makes_two_groups() -> None:
    world = World()
    result = play(world, [make_prompt(1), make_prompt(1)])
    assert [group.prompt.id for group in result.groups_P] == ["s/1", "s/1"]
    assert [[s.rollout.tokens[0] for s in group.samples_G] for group in result.groups_P] == [[10, 10], [11, 11]]


def test_nothing_to_learn_is_no_update_but_still_a_sync() -> None:
    world = World(judgement=all_alike)
    result = play(world)
    assert world.phases() == ["sync"]
    assert world.synced == [VERSION + 1]
    assert result.trained_sequences == 0
    assert result.update == UpdateResult()


def test_a_failed_update_syncs_nothing() -> None:
    world = World(update_error=EngineError("a rank died"))
    with pytest.raises(EngineError, match="a rank died"):
        play(world)
    assert world.synced == []


def test_a_watcher_is_told_of_phases_and_counts() -> None:
    told: list[object] = []
    watcher = Progress(judged=lambda done, total: told.append((done, total)), phase=told.append)
    play(World(), progress=watcher)
    assert told == ["generate_and_judge", (1, 4), (2, 4), (3, 4), (4, 4), "reference", "update", "sync"]


def test_a_completion_without_tokens_is_no_training_row() -> None:
    group = make_group(scored(1.0), scored(-1.0))
    empty, full = (replace(sample, advantage=0.5) for sample in group.samples_G)
    empty = replace(empty, rollout=replace(empty.rollout, tokens=(), logprobs=()))
    assert [row.tokens for row in build_sequences((replace(group, samples_G=(empty, full)),), config())] == [
        (1, 2, 5, 6)
    ]


def test_a_group_that_teaches_nothing_is_drawn_again_with_other_seeds() -> None:
    def second_prompt_varies_late(rollout: Rollout) -> Verdict:
        late = rollout.prompt_id == "s/1" and rollout.sample == 5
        return scored(2.0 if late or (rollout.prompt_id == "s/0" and rollout.sample == 0) else 1.0)

    world = World(judgement=second_prompt_varies_late)
    again = RunConfig.model_validate({"samples_per_prompt": 2, "credit": {"resample": 4}})
    result = one_round(world, again, [make_prompt(0), make_prompt(1)])
    assert [call for call in world.calls if call.startswith("generate")] == [
        "generate 0.0", "generate 0.1", "generate 1.0", "generate 1.1",
        "generate 0.2", "generate 0.3", "generate 0.4", "generate 0.5",
    ]  # fmt: skip
    assert [[s.rollout.sample for s in group.samples_G] for group in result.groups_P] == [[0, 1], [4, 5]]
    assert [{s.rollout.group for s in group.samples_G} for group in result.groups_P] == [{0}, {1}]
    assert result.trained_sequences == 4


def test_what_teaches_nothing_to_the_end_is_skipped() -> None:
    world = World(judgement=all_alike)
    again = RunConfig.model_validate({"samples_per_prompt": 2, "credit": {"resample": 1}})
    result = one_round(world, again, [make_prompt(0)])
    assert [s.rollout.sample for s in result.groups_P[0].samples_G] == [2, 3]
    assert result.trained_sequences == 0
    assert world.phases() == ["sync"]


@pytest.mark.parametrize("objective", ["dpo", "ipo"])
def test_pairs_are_trained_on_as_chosen_and_rejected_in_turn(objective: str) -> None:
    world = World(judgement=lambda rollout: scored(2.0 if rollout.sample == 1 else 0.0))
    by_pairs = RunConfig.model_validate({"samples_per_prompt": 3, "policy": {"objective": objective, "kl_coef": 0}})
    play_prompts = [make_prompt(0), make_prompt(1)]
    one_round(world, by_pairs, play_prompts)
    assert [row.tokens[-1] for row in world.trained] == [21, 20, 21, 20]
    assert [row.advantage > 0 for row in world.trained] == [True, False, True, False]
    assert all(row.reference_logprobs for row in world.trained)
