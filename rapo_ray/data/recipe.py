"""Recipes: "stratasword:100,star1:50" stands for a seeded sample of 100 and of 50 prompts of two sources."""

import math
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rapo_ray.config.sources import PACKAGED, SourceConfig
from rapo_ray.data.rows import BadRow
from rapo_ray.data.sources import load_source
from rapo_ray.errors import ConfigError, DataError
from rapo_ray.types import Prompt

# No slash in a name, so that ids of different sources can never collide.
ITEM = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9_.-]*):(?P<count>all|[0-9]{1,9})")


@dataclass(frozen=True, slots=True)
class RecipeItem:
    """The number of prompts to sample from one source."""

    name: str
    count: int | Literal["all"]


@dataclass(frozen=True, slots=True)
class LoadedData:
    """The prompts of a recipe, in its order of sources, and every quarantined row."""

    prompts: tuple[Prompt, ...]
    quarantined: tuple[BadRow, ...]


def parse_recipe(text: str) -> tuple[RecipeItem, ...]:
    """Parse "name:count,name:all"; raises ConfigError naming the item that is wrong."""
    items = tuple(_parse_item(item.strip(), text) for item in text.split(","))
    names = [item.name for item in items]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"recipe {text!r} names {name!r} twice; add the counts up in one item")
    return items


def _parse_item(item: str, text: str) -> RecipeItem:
    match = ITEM.fullmatch(item)
    if match is None or match["count"].strip("0") == "":
        raise ConfigError(
            f"recipe {text!r}: item {item!r} is not name:count; expected a source name, a colon, and a number of at "
            f"least 1 or 'all', like 'quickstart:20'"
        )
    return RecipeItem(match["name"], "all" if match["count"] == "all" else int(match["count"]))


def build_prompts(
    recipe: Sequence[RecipeItem], sources: Mapping[str, SourceConfig], seed: int, max_bad_share: float
) -> LoadedData:
    """Sample each item's prompts, depending only on seed and file, not on the other items.

    The packaged sets need not be in `sources`. Raises ConfigError for an unknown name, and DataError where a source
    cannot be read or has too few prompts.
    """
    known = {kind: SourceConfig(kind=kind) for kind in PACKAGED} | dict(sources)
    prompts: list[Prompt] = []
    quarantined: list[BadRow] = []
    for item in recipe:
        if item.name not in known:
            raise ConfigError(f"recipe names the source {item.name!r}; known are {', '.join(sorted(known))}")
    for item in recipe:
        loaded = load_source(item.name, known[item.name], max_bad_share)
        prompts += _sample(item, loaded.prompts, len(loaded.quarantined), seed)
        quarantined += loaded.quarantined
    return LoadedData(tuple(prompts), tuple(quarantined))


def _sample(item: RecipeItem, prompts: Sequence[Prompt], bad: int, seed: int) -> list[Prompt]:
    if item.count == "all":
        return list(prompts)
    if item.count > len(prompts):
        raise DataError(
            f"recipe asks for {item.count} prompts of {item.name!r}, which has {len(prompts)} usable "
            f"({bad} rows quarantined); ask for fewer, or for '{item.name}:all'"
        )
    strata: dict[tuple[bool, int], list[int]] = {}
    for index, prompt in enumerate(prompts):
        strata.setdefault((prompt.harmful, prompt.level or 0), []).append(index)
    generator = random.Random(f"{seed}/{item.name}")
    sizes = [len(strata[key]) for key in sorted(strata)]
    shares = zip(sorted(strata), _apportion(item.count, sizes), strict=True)
    sampled = [index for key, count in shares for index in generator.sample(strata[key], count)]
    return [prompts[index] for index in sorted(sampled)]


def _apportion(count: int, sizes: Sequence[int]) -> list[int]:
    """Shares of `count` in proportion to `sizes`, at least one each if `count` suffices (Huntington-Hill)."""
    shares = [0] * len(sizes)
    for _ in range(count):
        priorities = [
            (size / math.sqrt(share * (share + 1)) if share else math.inf, size)
            for size, share in zip(sizes, shares, strict=True)
        ]
        shares[priorities.index(max(priorities))] += 1
    return shares
