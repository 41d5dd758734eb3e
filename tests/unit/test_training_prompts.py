"""Prompts of a round under attack: pairs with twins, what is dropped, and exact resumption through a whole session."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rapo_ray.attacks.attacked import under_chain
from rapo_ray.attacks.attacker import Outcome, State
from rapo_ray.attacks.bandit import Bandit
from rapo_ray.attacks.chain import apply_chain
from rapo_ray.config import RunConfig
from rapo_ray.data.contamination import Guard
from rapo_ray.data.sampler import PromptSampler
from rapo_ray.errors import CheckpointError
from rapo_ray.models.chat import PLAIN
from rapo_ray.orchestrator.prompts import Limits, RoundAttacks, TrainingPrompts
from rapo_ray.pipeline.attacks import training_prompts
from rapo_ray.pipeline.inputs import Inputs
from rapo_ray.pipeline.session import Session
from rapo_ray.reward.outcomes import fails, outcomes, over_refusal
from rapo_ray.storage.checkpoint import CheckpointStore
from rapo_ray.storage.metrics import measure_round
from rapo_ray.storage.reader import read_groups, read_metrics
from rapo_ray.storage.run_folder import RunFolder
from rapo_ray.types import DroppedAttacks, Prompt, Response, RoundResult, Status, UpdateResult, Verdict
from tests.make import failed, make_group, make_prompt, scored
from tests.unit.test_orchestrator import World
from tests.unit.test_save_beside import NoWatchers

pytestmark = pytest.mark.unit

BATCH = [
    make_prompt(number, harmful=number % 2 == 0, text=f"word{number} has six words of its own") for number in range(12)
]
ROUNDS = 4


class Scripted:
    """An attacker of one chain, which fails to attack some seeds and records what it is told."""

    name, version = "scripted", 3

    def __init__(self, chain: tuple[str, ...] = ("base64",), failing: Sequence[str] = ()) -> None:
        self.chain = chain
        self.failing = failing
        self.told: list[Outcome] = []

    def propose(self, seeds_P: Sequence[Prompt], number: int) -> list[Prompt]:
        attacked = [under_chain(seed, self.chain, self.name, self.version, number) for seed in seeds_P]
        return [seed if seed.id in self.failing else one for seed, one in zip(seeds_P, attacked, strict=True)]

    def learn(self, outcomes: Sequence[Outcome]) -> None:
        self.told += outcomes

    def state(self) -> State:
        return {"told": len(self.told)}

    def restore(self, state: State) -> None:
        assert state == self.state()


def limits(suite: Sequence[str] = (), lengths: int = 5, max_tokens: int = 9) -> Limits:
    """Limits with a suite of these texts, and engines to which every prompt has `lengths` tokens."""
    suites = [make_prompt(number, text=text) for number, text in enumerate(suite)]
    return Limits(Guard(suites), lambda prompts: [lengths] * len(prompts), max_tokens)


def attacked(batch: Sequence[Prompt]) -> list[Prompt]:
    return [prompt for prompt in batch if prompt.attack is not None]


@given(pairs=st.integers(1, 9), number=st.integers(1, 99), batch=st.lists(st.sampled_from(BATCH), max_size=12))
def test_a_pair_replaces_a_harmful_and_a_benign_prompt_of_the_batch(
    pairs: int, number: int, batch: list[Prompt]
) -> None:
    made, dropped = RoundAttacks(Scripted(), pairs, limits(), seed=5).replace(batch, number)
    again, _ = RoundAttacks(Scripted(), pairs, limits(), seed=5).replace(batch, number)
    count = min(pairs, sum(prompt.harmful for prompt in batch), sum(not prompt.harmful for prompt in batch))
    assert made == again
    assert [prompt.plain for prompt in made] == batch
    assert Counter(prompt.harmful for prompt in attacked(made)) == Counter({True: count, False: count})
    assert dropped == DroppedAttacks()


def test_other_rounds_attack_other_prompts() -> None:
    attacks = RoundAttacks(Scripted(), 2, limits(), seed=5)
    assert len({tuple(one.plain.id for one in attacked(attacks.replace(BATCH, n)[0])) for n in range(9)}) > 5


def test_a_twin_has_the_chain_and_the_seed_of_its_attack() -> None:
    attacker = Bandit(("base64", "role_play", "urgency"), 3, seed=1)
    made, _ = RoundAttacks(attacker, 6, limits(), seed=5).replace(BATCH, 7)
    attacks = Counter((one.attack.chain, one.attack.number) for one in made if one.harmful and one.attack)
    twins = Counter((one.attack.chain, one.attack.number) for one in made if not one.harmful and one.attack)
    assert attacks == twins
    assert all(one.text == apply_chain(one.attack.chain, one.plain.text, 7) for one in made if one.attack)


@pytest.mark.parametrize(
    ("attacker", "limited", "dropped"),
    [
        (Scripted(("urgency",)), limits(suite=["word4 has six words of its own"]), DroppedAttacks(contaminated=1)),
        (Scripted(("urgency",)), limits(suite=["word5 has six words of its own"]), DroppedAttacks(contaminated=1)),
        (Scripted(failing=["s/2"]), limits(), DroppedAttacks(failed=1)),
        (Scripted(), limits(lengths=10), DroppedAttacks(too_long=6)),
        (Scripted(), limits(lengths=9), DroppedAttacks()),
    ],
    ids=["a suite holds the attack", "a suite holds the twin", "the attacker made none", "too long", "just fits"],
)
def test_what_may_not_be_sent_stays_plain_with_its_twin(
    attacker: Scripted, limited: Limits, dropped: DroppedAttacks
) -> None:
    made, counted = RoundAttacks(attacker, 6, limited, seed=5).replace(BATCH, 1)
    assert counted == dropped
    missing = dropped.contaminated + dropped.failed + dropped.too_long
    assert Counter(prompt.harmful for prompt in attacked(made)) == Counter({True: 6 - missing, False: 6 - missing})
    assert [prompt.plain for prompt in made] == BATCH


def test_the_attacker_learns_what_became_of_attacks_and_twins_and_nothing_of_plain_prompts() -> None:
    attacker = Scripted()
    prompts = TrainingPrompts(PromptSampler(BATCH, 12, 0), RoundAttacks(attacker, 1, limits(lengths=10), seed=5))
    prompts.next_batch(1)
    harmful, benign = (under_chain(one, ("base64",), "scripted", 3, 1) for one in BATCH[:2])
    groups_P = [
        make_group(scored(-2.0), scored(2.0), failed(), prompt=harmful),
        make_group(scored(-2.0), prompt=benign),
        make_group(scored(-2.0), prompt=BATCH[2]),
    ]
    assert prompts.learn(1, groups_P) == DroppedAttacks(too_long=1)
    assert [(one.prompt, one.success) for one in attacker.told] == [
        (harmful, True), (harmful, False), (harmful, None), (benign, True)
    ]  # fmt: skip
    assert all(one.reply == groups_P[0].samples_G[0].completion.answer for one in attacker.told)


def test_without_an_attacker_the_batch_is_the_sampler_s() -> None:
    prompts = TrainingPrompts(PromptSampler(BATCH, 5, 0), None)
    assert prompts.next_batch(1) == PromptSampler(BATCH, 5, 0).next_batch()
    assert prompts.learn(1, []) is None
    assert prompts.states()[1] is None


def test_a_checkpoint_without_the_attacker_s_state_is_refused() -> None:
    prompts = TrainingPrompts(PromptSampler(BATCH, 5, 0), RoundAttacks(Scripted(), 1, limits(), seed=5))
    with pytest.raises(CheckpointError, match=r"no state of an attacker, but data\.attack asks for one"):
        prompts.restore(PromptSampler(BATCH, 5, 0).state(), None)


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        (scored(1.0), False),
        (scored(-1.0), True),
        (failed(), None),
        (Verdict(Status.MALFORMED, "rules", risk=-1.0, general=-1.0), None),
        (replace(scored(-1.0), status=Status.INJECTION), True),
    ],
)
def test_an_answer_that_no_judge_has_read_neither_fails_nor_holds(verdict: Verdict, expected: bool | None) -> None:
    assert fails(verdict) is expected


def test_over_refusal_is_the_share_of_benign_answers_that_do_not_help() -> None:
    twin = under_chain(BATCH[1], ("base64",), "scripted", 3, 1)
    groups_P = [
        make_group(scored(-2.0), scored(-2.0), prompt=BATCH[0]),
        make_group(scored(-2.0), scored(2.0), failed(), prompt=twin),
        make_group(scored(2.0), scored(2.0), prompt=BATCH[3]),
    ]
    assert over_refusal(groups_P) == 0.25
    assert over_refusal(groups_P[:1]) is None
    assert len(outcomes(groups_P)) == 3


def test_metrics_of_attacks_by_hand() -> None:
    deep = under_chain(BATCH[0], ("base64", "urgency"), "scripted", 3, 1)
    flat = under_chain(BATCH[2], ("urgency",), "scripted", 3, 1)
    twin = under_chain(BATCH[1], ("urgency",), "scripted", 3, 1)
    groups_P = (
        make_group(scored(-2.0), scored(-2.0), prompt=deep),
        make_group(scored(-2.0), scored(2.0), failed(), prompt=flat),
        make_group(scored(2.0), scored(2.0), prompt=BATCH[4]),
        make_group(scored(2.0), scored(-2.0), prompt=twin),
        make_group(scored(2.0), prompt=BATCH[3]),
    )
    result = RoundResult(2, 1, groups_P, UpdateResult(), {}, 0, 0.0)
    attacks = measure_round(result, DroppedAttacks(contaminated=2)).attacks
    assert attacks is not None
    assert attacks.share == 3 / 5
    assert {k: (one.count, one.n, one.prompts) for k, one in attacks.by_k.items()} == {
        "0": (0, 2, 1), "1": (1, 2, 1), "2": (2, 2, 1)
    }  # fmt: skip
    assert {name: one.share for name, one in attacks.by_family.items()} == {"base64": 1.0, "urgency": 3 / 4}
    assert attacks.twins_answered.share == 0.5
    assert attacks.dropped.contaminated == 2
    assert measure_round(result).attacks is None


class Learning(World):
    """A policy whose attacked prompts fall at first, and whose verdicts depend on the prompt alone."""

    def __init__(self, version: int = 0) -> None:
        super().__init__(self.judged, version)

    def judged(self, response: Response) -> Verdict:
        return scored(2.0 if (len(response.prompt_id) + response.sample) % 3 else -2.0)

    def sync(self, version: int) -> None:
        super().sync(version)
        self.version = version


@dataclass
class Run:
    """The rounds of a run with a bandit, without Ray."""

    out: Path
    changes: dict[str, Any] = field(default_factory=dict)

    def play(self, until: int) -> Path:
        """Go on from the newest checkpoint; the process ends in the round after `until`. Gives the run's folder."""
        data = {"attack": {"share": 0.5, "max_k": 3}}
        config = RunConfig.model_validate(
            {
                "out": str(self.out), "rounds": ROUNDS, "prompts_per_round": 8, "samples_per_prompt": 2, "data": data,
                "checkpoint": {"every": 2, "keep": 9}, "credit": {"over_refusal_bound": 0.1}, **self.changes,
            }
        )  # fmt: skip
        folder = RunFolder(config)
        folder.open()
        inputs = Inputs(BATCH, [], [], [], [])
        session = Session(config, folder, inputs, NoWatchers(), self.out, PLAIN)  # type: ignore[arg-type]
        store = CheckpointStore(folder.checkpoints, 9)
        prompts = training_prompts(config, inputs, lambda some: [5] * len(some))
        latest = store.latest()
        world = Learning(0 if latest is None else latest.state.round)
        done = session._restore(latest, world, prompts)
        folder.forget_after(done)

        def evaluate(number: int) -> None:
            if number == until:
                raise KeyboardInterrupt

        try:
            with store.finishing():
                session._rounds(world.inference(), world.learner(), prompts, store, done, evaluate)
        except KeyboardInterrupt:
            pass
        folder.close()
        return folder.path


@pytest.mark.parametrize("staleness", [0, 1])
def test_a_resumed_run_makes_the_same_attacks_and_has_the_same_multiplier(staleness: int, tmp_path: Path) -> None:
    changes = {"rollout": {"staleness": staleness}}
    whole = Run(tmp_path / "whole", changes).play(ROUNDS)
    broken = Run(tmp_path / "broken", changes)
    for until in (1, 3, ROUNDS):
        resumed = broken.play(until)
    seen = set()
    for number in range(1, ROUNDS + 1):
        one, other = (read_groups(run / "rounds" / f"round-{number:06d}.parquet") for run in (whole, resumed))
        assert one == other
        seen |= {group.prompt.attack.version for group in one if group.prompt.attack is not None}
    metrics = [read_metrics(run / "metrics.jsonl") for run in (whole, resumed)]
    assert [one.multiplier for one in metrics[0]] == [one.multiplier for one in metrics[1]]
    assert len({one.multiplier for one in metrics[0]}) > 1
    # The attacker of a prefetched round has not seen the round before; the one after a checkpoint is never prefetched.
    assert seen == ({0, 1, 2, 3} if staleness == 0 else {0, 2})


def test_provenance_is_in_the_rows_and_read_back(tmp_path: Path) -> None:
    run = Run(tmp_path).play(ROUNDS)
    groups_P = read_groups(run / "rounds" / "round-000002.parquet")
    attacks = [group.prompt.attack for group in groups_P if group.prompt.attack is not None]
    plain = {prompt.id: prompt for prompt in BATCH}
    assert len(attacks) == 4
    assert {attack.attacker for attack in attacks} == {"bandit"}
    assert {attack.number for attack in attacks} == {2}
    assert all(attack.seed == plain[attack.seed.id] for attack in attacks)
    texts = [group.prompt.text for group in groups_P if group.prompt.attack is not None]
    assert texts == [apply_chain(attack.chain, attack.seed.text, attack.number) for attack in attacks]
    (line,) = [one for one in (run / "metrics.jsonl").read_text().splitlines() if json.loads(one)["round"] == 2]
    assert json.loads(line)["attacks"]["share"] == 0.5
