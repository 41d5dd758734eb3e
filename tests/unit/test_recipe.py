"""Recipes: parsing, and seeded samples that are reproducible and biased towards no part of a file."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rapo_ray.config.sources import SourceConfig
from rapo_ray.data.recipe import RecipeItem, _apportion, build_prompts, parse_recipe
from rapo_ray.data.rows import LoadedSource
from rapo_ray.errors import ConfigError, DataError

pytestmark = pytest.mark.unit


def write(path: Path, levels: Mapping[int | None, int]) -> SourceConfig:
    rows = [
        {"text": f"{path.stem} level {level} number {number}", "harmful": True, "level": level}
        for level, count in levels.items()
        for number in range(count)
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
    return SourceConfig(kind="file", path=path)


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, SourceConfig]:
    return {
        "plain": write(tmp_path / "plain.jsonl", {None: 200}),
        "levels": write(tmp_path / "levels.jsonl", {1: 100, 2: 100, 3: 200}),
    }


def build(recipe: str, sources: Mapping[str, SourceConfig], seed: int = 0) -> LoadedSource:
    return build_prompts(parse_recipe(recipe), sources, seed, max_bad_share=0.0)


def ids(recipe: str, sources: Mapping[str, SourceConfig], seed: int = 0) -> list[str]:
    return [prompt.id for prompt in build(recipe, sources, seed).prompts]


def test_parse() -> None:
    assert parse_recipe("stratasword:100, star1:50,quickstart-heldout:all") == (
        RecipeItem("stratasword", 100),
        RecipeItem("star1", 50),
        RecipeItem("quickstart-heldout", "all"),
    )


@pytest.mark.parametrize(
    ("recipe", "item"),
    [
        ("", "''"),
        ("star1", "'star1'"),
        ("star1:", "'star1:'"),
        (":5", "':5'"),
        ("star1:0", "'star1:0'"),
        ("star1:000", "'star1:000'"),
        ("star1:-5", "'star1:-5'"),
        ("star1:1.5", "'star1:1.5'"),
        ("star1:ALL", "'star1:ALL'"),
        ("star1:\u0665", "'star1:\u0665'"),
        ("star1:5,", "''"),
        ("a:5,b:x,c:5", "'b:x'"),
        ("a/b:5", "'a/b:5'"),
        ("a:5\nb:5", r"'a:5\nb:5'"),
    ],
)
def test_a_wrong_item_is_named_with_what_is_expected(recipe: str, item: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_recipe(recipe)
    assert f"item {item} is not name:count; expected a source name" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_name_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="names 'star1' twice"):
        parse_recipe("star1:5,quickstart:1,star1:6")


def test_an_unknown_name_lists_the_known_before_anything_is_read(sources: dict[str, SourceConfig]) -> None:
    with pytest.raises(
        ConfigError, match=r"'strata'; known are levels, plain, quickstart, quickstart-heldout, quickstart-validation$"
    ):
        build("plain:1000,strata:5", sources)


def test_asking_more_than_there_is_names_both_numbers(sources: dict[str, SourceConfig]) -> None:
    with pytest.raises(DataError, match=r"asks for 201 prompts of 'plain', which has 200 usable"):
        build("plain:201", sources)


def test_a_sample_is_not_the_first_rows_and_repeats_exactly(sources: dict[str, SourceConfig]) -> None:
    sampled = ids("plain:20", sources)
    assert len(set(sampled)) == 20
    assert sampled != ids("plain:all", sources)[:20]
    assert sampled == ids("plain:20", sources)
    assert sampled != ids("plain:20", sources, seed=1)


def test_a_sample_is_pinned_across_machines_and_versions(sources: dict[str, SourceConfig]) -> None:
    assert ids("plain:4", sources, seed=7) == PINNED


def test_samples_reach_the_whole_file(sources: dict[str, SourceConfig]) -> None:
    counts = Counter(sampled for seed in range(200) for sampled in ids("plain:20", sources, seed))
    assert len(counts) == 200  # each row is sampled with probability 0.1 in each of 200 samples
    assert max(counts.values()) < 45


def test_the_sample_of_one_source_does_not_depend_on_the_others(sources: dict[str, SourceConfig]) -> None:
    alone = ids("plain:20", sources)
    assert ids("levels:7,plain:20", sources)[7:] == alone


def test_all_keeps_every_prompt_in_file_order(sources: dict[str, SourceConfig]) -> None:
    assert ids("plain:all", sources) == ids("plain:200", sources) == [f"plain/{number}" for number in range(1, 201)]


@pytest.mark.parametrize(
    ("count", "levels"),
    [(100, {1: 25, 2: 25, 3: 50}), (400, {1: 100, 2: 100, 3: 200}), (3, {1: 1, 2: 1, 3: 1}), (1, {3: 1})],
)
def test_levels_are_sampled_in_proportion(sources: dict[str, SourceConfig], count: int, levels: dict[int, int]) -> None:
    prompts = build(f"levels:{count}", sources).prompts
    assert Counter(prompt.level for prompt in prompts) == levels
    assert len({prompt.id for prompt in prompts}) == count


def test_a_rare_level_is_present(tmp_path: Path) -> None:
    sources = {"rare": write(tmp_path / "rare.jsonl", {1: 300, 2: 1, 3: 1})}
    assert {prompt.level for prompt in build("rare:10", sources).prompts} == {1, 2, 3}


def test_shares_are_rounded_to_the_nearest_and_not_up() -> None:
    assert _apportion(10, [12, 88]) == [1, 9]
    assert _apportion(10, [15, 85]) == [2, 8]


@given(st.data(), st.lists(st.integers(1, 300), min_size=1, max_size=6))
def test_shares_add_up_fit_and_leave_nobody_out(data: st.DataObject, sizes: Sequence[int]) -> None:
    count = data.draw(st.integers(1, sum(sizes)))
    shares = _apportion(count, sizes)
    assert sum(shares) == count
    assert all(share <= size for share, size in zip(shares, sizes, strict=True))
    assert count < len(sizes) or min(shares) >= 1


def test_quarantined_rows_are_reported_with_the_data(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text('{"text": "a"}\n{"text": null}\n{"text": "b"}\n', "utf-8")
    sources = {"mine": SourceConfig(kind="file", path=path, harmful=False)}
    data = build_prompts(parse_recipe("mine:all"), sources, seed=0, max_bad_share=0.5)
    assert [prompt.id for prompt in data.prompts] == ["mine/1", "mine/3"]
    assert [(bad.row, bad.reason) for bad in data.quarantined] == [(2, "text is missing")]


def test_packaged_names_need_no_source(sources: dict[str, SourceConfig]) -> None:
    assert {
        prompt.source for prompt in build("quickstart:4,quickstart-heldout:4,quickstart-validation:4", {}).prompts
    } == {
        "quickstart",
        "quickstart-heldout",
        "quickstart-validation",
    }


PINNED = ["plain/98", "plain/105", "plain/113", "plain/187"]
