"""Tries of an attacker that draws chains by seed: the same for a behaviour and its benign twin (pure)."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rapo_ray.attacks.chain import Chain, apply_chain, draw_chain
from rapo_ray.attacks.split import ONE_TURN, split_families
from rapo_ray.evaluation.rows import Item, Split, try_item
from rapo_ray.seeds import derive_seed
from rapo_ray.types import Attack, Prompt

RANDOM = "random"  # the name of this attacker
VERSION = 1
REDRAWS = 20  # of a chain that a behaviour was tried with already

Families = dict[Split, tuple[str, ...]]  # without a split that has no family


@dataclass(frozen=True, slots=True)
class Effort:
    """Number of tries by each split of the families, and the most families in a chain."""

    tries: int
    longest_chain: int
    families: Families


def families_by_split(heldout: Sequence[str]) -> Families:
    """All families by split, where some families or mechanisms are held out."""
    if not heldout:
        return {"trained": ONE_TURN}
    split = split_families(heldout)
    return {"trained": split.trained, "heldout": split.held_out}


def make_tries(prompts: Sequence[Prompt], effort: Effort, seed: int) -> list[Item]:
    """Tries at every prompt without an exact answer, in their order; chains hang on texts, not on ids or places."""
    counterparts = pair_twins(prompts)
    return [
        try_item(_attacked(prompt, chain, number, derive_seed(seed, "frames", split, leader.text, number)), split)
        for prompt in prompts
        if prompt.expected is None
        for leader in [counterparts.get(prompt.id, prompt)]
        for split, names in effort.families.items()
        for number, chain in enumerate(draw_chains(names, effort, derive_seed(seed, "tries", split, leader.text)))
    ]


def pair_twins(prompts: Sequence[Prompt]) -> dict[str, Prompt]:
    """The harmful counterpart of each benign prompt, by id: of its category where one has it, in order and in turn."""
    harmful = [prompt for prompt in prompts if prompt.harmful and prompt.expected is None]
    taken: dict[str | None, int] = {}
    pairs = {}
    for prompt in prompts:
        if prompt.harmful or prompt.expected is not None or not harmful:
            continue
        alike = [one for one in harmful if one.category is not None and one.category == prompt.category]
        key, pool = (prompt.category, alike) if alike else (None, harmful)
        pairs[prompt.id] = pool[taken.get(key, 0) % len(pool)]
        taken[key] = taken.get(key, 0) + 1
    return pairs


def draw_chains(families: Sequence[str], effort: Effort, seed: int) -> list[Chain]:
    """Chains of `effort.tries` tries, different ones as long as there are; fewer tries take the first of them."""
    generator = random.Random(seed)
    longest = min(effort.longest_chain, len(families))
    chains: list[Chain] = []
    for number in range(effort.tries):
        length = number % longest + 1
        drawn = (draw_chain(families, length, generator) for _ in range(REDRAWS))
        chain = next((one for one in drawn if one not in chains), None)
        chains.append(chain or draw_chain(families, length, generator))
    return chains


def _attacked(prompt: Prompt, chain: Chain, number: int, seed: int) -> Prompt:
    attack = Attack(prompt, chain, RANDOM, VERSION, number)
    return replace(prompt, text=apply_chain(chain, prompt.text, seed), attack=attack)
