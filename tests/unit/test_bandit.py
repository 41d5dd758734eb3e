"""The bandit against scripted targets: it looks where success is undecided, follows a target that learns, resumes."""

import json
import random
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rapo_ray.attacks.attacker import Attacker, Outcome
from rapo_ray.attacks.bandit import Bandit
from rapo_ray.attacks.chain import apply_chain
from rapo_ray.errors import DataError
from rapo_ray.types import Attack, Prompt
from tests.make import make_prompt

pytestmark = pytest.mark.unit

FAMILIES = ("base64", "leet", "morse", "role_play", "rot13", "urgency")
SEEDS_P = [make_prompt(number, harmful=True) for number in range(20)]
SAMPLES = 4

Target = Callable[[tuple[str, ...]], float]  # success rate of a chain


def attack_of(prompt: Prompt) -> Attack:
    """The attack that made a prompt."""
    assert prompt.attack is not None
    return prompt.attack


def play(attacker: Attacker, target: Target, rounds: range, generator: random.Random) -> Counter[tuple[str, ...]]:
    """Chains of the last five rounds against the target."""
    chains: Counter[tuple[str, ...]] = Counter()
    for number in rounds:
        attacks = attacker.propose(SEEDS_P, number)
        if number >= rounds.stop - 5:
            chains.update(tuple(sorted(attack_of(prompt).chain)) for prompt in attacks)
        attacker.learn(
            [
                Outcome(prompt, generator.random() < target(attack_of(prompt).chain))
                for prompt in attacks
                for _ in range(SAMPLES)
            ]
        )
    return chains


def only(family: str, k: int = 1) -> Target:
    """A target that is undecided under chains of k families with this one, and holds otherwise."""
    return lambda chain: 0.5 if family in chain and len(chain) == k else 0.0


@pytest.mark.parametrize("elsewhere", [0.0, 1.0], ids=["it holds elsewhere", "it falls elsewhere"])
def test_it_goes_to_the_family_at_which_success_is_undecided(elsewhere: float) -> None:
    attacker = Bandit(FAMILIES, 1, seed=3)
    chains = play(attacker, lambda chain: 0.5 if chain == ("morse",) else elsewhere, range(1, 16), random.Random(1))
    assert chains["morse",] / chains.total() > 0.6


def test_it_goes_to_the_complexity_at_which_success_is_undecided() -> None:
    attacker = Bandit(FAMILIES, 3, seed=3)
    chains = play(attacker, lambda chain: {1: 1.0, 2: 0.5, 3: 0.0}[len(chain)], range(1, 16), random.Random(1))
    assert sum(count for chain, count in chains.items() if len(chain) == 2) / chains.total() > 0.6


def test_it_leaves_a_family_that_the_target_has_learned_for_the_next_one() -> None:
    attacker, generator = Bandit(FAMILIES, 1, seed=3), random.Random(1)
    before = play(attacker, only("leet"), range(1, 16), generator)
    after = play(attacker, only("rot13"), range(16, 41), generator)
    assert before.most_common(1)[0][0] == ("leet",)
    assert after.most_common(1)[0][0] == ("rot13",)


def test_without_outcomes_every_family_and_complexity_comes_up() -> None:
    attacks = [attack_of(prompt) for number in range(30) for prompt in Bandit(FAMILIES, 3, 0).propose(SEEDS_P, number)]
    lengths = Counter(len(attack.chain) for attack in attacks)
    assert {family for attack in attacks for family in attack.chain} == set(FAMILIES)
    assert set(lengths) == {1, 2, 3}
    assert min(lengths.values()) > len(attacks) / 5


def test_attacks_have_their_provenance_and_follow_from_it() -> None:
    attacker = Bandit(FAMILIES, 2, seed=0)
    attacker.learn([])
    for prompt, seed in zip(attacker.propose(SEEDS_P, 7), SEEDS_P, strict=True):
        attack = attack_of(prompt)
        assert (attack.seed, attack.attacker, attack.version, attack.number) == (seed, "bandit", 1, 7)
        assert len(set(attack.chain)) == len(attack.chain) in (1, 2)
        assert prompt.text == apply_chain(attack.chain, seed.text, attack.number)
        assert prompt.id.startswith(seed.id)
        assert prompt.plain is seed


@pytest.mark.parametrize(("level", "levels"), [(1, {2, 3}), (2, {3}), (3, {3}), (None, {None})])
def test_a_family_makes_a_prompt_a_level_deeper(level: int | None, levels: set[int | None]) -> None:
    seeds_P = [make_prompt(number, harmful=True, level=level) for number in range(40)]
    attacks = Bandit(FAMILIES, 3, seed=0).propose(seeds_P, 1)
    assert {prompt.level for prompt in attacks} == levels
    assert all(level != 1 or prompt.level == min(3, 1 + len(attack_of(prompt).chain)) for prompt in attacks)


def test_failed_verdicts_and_twins_count_as_nothing() -> None:
    one, other = Bandit(FAMILIES, 2, seed=0), Bandit(FAMILIES, 2, seed=0)
    attacked = one.propose(SEEDS_P, 1)
    twins = one.propose([make_prompt(number) for number in range(20)], 1)
    one.learn([Outcome(prompt, None) for prompt in attacked] + [Outcome(prompt, True) for prompt in twins])
    other.learn([Outcome(make_prompt(), True)])
    assert one.state() == other.state()


@given(st.integers(0, 2**32), st.integers(1, 3), st.integers(0, 3))
def test_a_restored_attacker_goes_on_exactly(seed: int, max_k: int, rounds: int) -> None:
    attacker = Bandit(FAMILIES, max_k, seed)
    play(attacker, only("leet"), range(1, 1 + rounds), random.Random(seed))
    resumed = Bandit(tuple(reversed(FAMILIES)), max_k, seed)
    resumed.restore(json.loads(json.dumps(attacker.state(), sort_keys=True)))
    assert resumed.propose(SEEDS_P, 9) == attacker.propose(SEEDS_P, 9)
    assert resumed.state() == attacker.state()
    assert resumed.version == rounds


@pytest.mark.parametrize(
    "state",
    [
        {},
        Bandit(FAMILIES[1:], 2, 0).state(),
        Bandit(FAMILIES, 3, 0).state(),
        {**Bandit(FAMILIES, 2, 0).state(), "version": "1"},
    ],
    ids=["empty", "families", "k", "version"],
)
def test_a_state_with_other_arms_is_refused(state: dict[str, object]) -> None:
    with pytest.raises(DataError, match=r"other arms than data\.attack gives now"):
        Bandit(FAMILIES, 2, 0).restore(state)
