"""Prompts under an attack, with its provenance: the text follows from the seed prompt, the chain and the number."""

from dataclasses import replace

from rapo_ray.attacks.chain import Chain, apply_chain, chain_name
from rapo_ray.types import Attack, Prompt

MAX_LEVEL = 3


def under_chain(seed: Prompt, chain: Chain, attacker: str, version: int, number: int) -> Prompt:
    """The seed prompt under a chain of families of one turn, whose wrapping is seeded by `number`."""
    return under_attack(apply_chain(chain, seed.text, number), Attack(seed, chain, attacker, version, number))


def under_attack(text: str, attack: Attack) -> Prompt:
    """The seed prompt of an attack as `text`; a family of its chain makes it one level deeper, of three at most.

    A seed prompt without a level stays without one: it is judged on the prompt as sent.
    """
    seed = attack.seed
    return replace(
        seed,
        id=f"{seed.id}/{attack.attacker}-{attack.number}/{chain_name(attack.chain)}",
        text=text,
        level=None if seed.level is None else min(MAX_LEVEL, seed.level + len(attack.chain)),
        attack=attack,
    )
