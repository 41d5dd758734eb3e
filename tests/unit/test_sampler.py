"""The sampler: every prompt once per epoch, and exact resume from any position."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rapo_ray.data.sampler import PromptSampler
from rapo_ray.errors import ConfigError, DataError
from rapo_ray.types import Prompt
from tests.make import make_prompt

pytestmark = pytest.mark.unit


def make(count: int, text: str = "text") -> list[Prompt]:
    return [Prompt(f"s/{n}", f"{text} {n}", n % 2 == 0, None, "s", "train") for n in range(count)]


def take(sampler: PromptSampler, batches: int) -> list[str]:
    return [prompt.id for _ in range(batches) for prompt in sampler.next_batch()]


@given(count=st.integers(1, 12), batch=st.integers(1, 15), seed=st.integers(0, 2**40))
def test_every_prompt_comes_once_an_epoch(count: int, batch: int, seed: int) -> None:
    stream = take(PromptSampler(make(count), batch, seed), batches=count * 3)
    epochs = [stream[start : start + count] for start in range(0, len(stream), count)]
    assert len(stream) == 3 * count * batch
    assert all(sorted(epoch) == sorted(prompt.id for prompt in make(count)) for epoch in epochs)


@given(count=st.integers(1, 12), batch=st.integers(1, 15), seed=st.integers(0, 2**40), before=st.integers(0, 40))
def test_resume_is_exact_at_every_position(count: int, batch: int, seed: int, before: int) -> None:
    sampler = PromptSampler(make(count), batch, seed)
    take(sampler, before)
    state = json.loads(json.dumps(sampler.state()))
    resumed = PromptSampler(make(count), batch, seed + 1)  # the state's seed replaces the one it was built with
    take(resumed, 3)
    resumed.restore(state)
    assert resumed.state() == state
    assert take(resumed, 2 * count + 1) == take(sampler, 2 * count + 1)
    assert resumed.state() == sampler.state()


def test_batches_straddle_epochs() -> None:
    sampler = PromptSampler(make(5), 3, seed=0)
    assert [len(sampler.next_batch()) for _ in range(5)] == [3] * 5
    assert (sampler.state()["epoch"], sampler.state()["position"]) == (3, 0)


def test_epochs_and_seeds_have_their_own_orders() -> None:
    first, second = (take(PromptSampler(make(50), 50, seed), 3) for seed in (0, 1))
    orders = [first[start : start + 50] for start in (0, 50, 100)] + [
        second[start : start + 50] for start in (0, 50, 100)
    ]
    assert len({tuple(order) for order in orders}) == 6
    assert [prompt.id for prompt in make(50)] not in orders


def test_the_order_is_pinned_across_machines_and_versions() -> None:
    assert take(PromptSampler(make(5), 5, seed=7), 2) == PINNED


@given(
    kinds=st.lists(st.tuples(st.booleans(), st.sampled_from([1, 2, 3, None])), min_size=1, max_size=60),
    window=st.integers(1, 60),
    seed=st.integers(0, 99),
)
def test_every_stretch_of_an_epoch_has_the_shares_of_the_whole(
    kinds: list[tuple[bool, int | None]], window: int, seed: int
) -> None:
    prompts = [make_prompt(number, harmful=harmful, level=level) for number, (harmful, level) in enumerate(kinds)]
    order = [kinds[int(name.removeprefix("s/"))] for name in take(PromptSampler(prompts, len(prompts), seed), 1)]
    for start in range(max(1, len(order) - window + 1)):
        stretch = order[start : start + window]
        for kind in set(kinds):
            share = kinds.count(kind) / len(kinds) * len(stretch)
            assert abs(stretch.count(kind) - share) < len(set(kinds)) + 1


def test_a_round_of_the_quickstart_s_shape_is_never_of_one_kind() -> None:
    kinds = [(harmful, level) for harmful in (True, False) for level in (1, 2, 3)] * 27
    prompts = [make_prompt(number, harmful=harmful, level=level) for number, (harmful, level) in enumerate(kinds)]
    sampler = PromptSampler(prompts, 16, seed=5)
    for _ in range(10):
        batch = sampler.next_batch()
        assert 7 <= sum(prompt.harmful for prompt in batch) <= 9
        assert {(prompt.harmful, prompt.level) for prompt in batch} == set(kinds)


def test_the_state_is_plain() -> None:
    state = PromptSampler(make(5), 2, seed=3).state()
    assert {key: state[key] for key in ("seed", "epoch", "position", "prompts")} == {
        "seed": 3,
        "epoch": 0,
        "position": 0,
        "prompts": 5,
    }


@pytest.mark.parametrize("other", [make(6), make(4), make(5)[::-1], make(5, "other text")])
def test_a_state_of_other_data_is_refused_and_changes_nothing(other: list[Prompt]) -> None:
    sampler, elsewhere = PromptSampler(make(5), 2, seed=0), PromptSampler(other, 2, seed=0)
    before = sampler.state()
    with pytest.raises(DataError, match=f"is from other data \\({len(other)} prompts.*now gives \\(5 prompts"):
        sampler.restore(elsewhere.state())
    assert sampler.state() == before


@pytest.mark.parametrize(
    "damage", [{"position": 5}, {"position": -1}, {"epoch": -1}, {"seed": None}, {"epoch": "1"}, {"position": True}]
)
def test_a_damaged_state_is_refused(damage: dict[str, object]) -> None:
    sampler = PromptSampler(make(5), 2, seed=0)
    with pytest.raises(DataError, match=next(iter(damage))):
        sampler.restore({**sampler.state(), **damage})
    assert take(sampler, 5) == take(PromptSampler(make(5), 2, seed=0), 5)


def test_nothing_to_sample_is_an_error() -> None:
    with pytest.raises(DataError, match="no prompts"):
        PromptSampler([], 2, seed=0)
    with pytest.raises(ConfigError, match="batch size is 0"):
        PromptSampler(make(5), 0, seed=0)


PINNED = ["s/0", "s/3", "s/2", "s/4", "s/1", "s/2", "s/1", "s/4", "s/0", "s/3"]
