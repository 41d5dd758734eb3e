"""Recipes: "stratasword:100,star1:50" is a seeded sample of so many prompts of each source."""

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

# No slash in a name, so that ids of different sources can never meet.
ITEM = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9_.-]*):(?P<count>all|[0-9]{1,9})")


@dataclass(frozen=True, slots=True)
class RecipeItem:
    """How many prompts to draw from one source."""

    name: str
    count: int | Literal["all"]


@dataclass(frozen=True, slots=True)
class LoadedData:
    """The prompts of a recipe, source by source in its order, and every row set aside on the way."""

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
    """Draw each item's prompts: the same for the same seed and files, whatever the other items are.

    The packaged sets are known without being in `sources`. Raises ConfigError for an unknown name, and DataError where
    a source cannot be read or has fewer prompts than asked for.
    """
    known = {kind: SourceConfig(kind=kind) for kind in PACKAGED} | dict(sources)
    prompts: list[Prompt] = []
    quarantined: list[BadRow] = []
    for item in recipe:
        if item.name not in known:
            raise ConfigError(f"recipe names the source {item.name!r}; known are {', '.join(sorted(known))}")
    for item in recipe:
        loaded = load_source(item.name, known[item.name], max_bad_share)
        prompts += _draw(item, loaded.prompts, len(loaded.quarantined), seed)
        quarantined += loaded.quarantined
    return LoadedData(tuple(prompts), tuple(quarantined))


def _draw(item: RecipeItem, prompts: Sequence[Prompt], bad: int, seed: int) -> list[Prompt]:
    if item.count == "all":
        return list(prompts)
    if item.count > len(prompts):
        raise DataError(
            f"recipe asks for {item.count} prompts of {item.name!r}, which has {len(prompts)} usable "
            f"({bad} rows set aside); ask for fewer, or for '{item.name}:all'"
        )
    strata: dict[tuple[bool, int], list[int]] = {}
    for index, prompt in enumerate(prompts):
        strata.setdefault((prompt.harmful, prompt.level or 0), []).append(index)
    generator = random.Random(f"{seed}/{item.name}")
    sizes = [len(strata[key]) for key in sorted(strata)]
    shares = zip(sorted(strata), _apportion(item.count, sizes), strict=True)
    drawn = [index for key, count in shares for index in generator.sample(strata[key], count)]
    return [prompts[index] for index in sorted(drawn)]


def _apportion(count: int, sizes: Sequence[int]) -> list[int]:
    """Share `count` out in proportion to `sizes`, at least one each where it suffices (Huntington-Hill)."""
    given = [0] * len(sizes)
    for _ in range(count):
        priorities = [
            (size / math.sqrt(had * (had + 1)) if had else math.inf, size)
            for size, had in zip(sizes, given, strict=True)
        ]
        given[priorities.index(max(priorities))] += 1
    return given
