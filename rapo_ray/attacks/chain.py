"""Chains of families: the first is applied to the request, the next to what that gives, and so on.

The frames that a chain puts around a request depend on the chain and the seed alone, never on the request: a harmful
prompt and its benign twin under one chain and one seed differ in nothing but the request.
"""

import random
from collections.abc import Sequence

from rapo_ray.attacks.library import FAMILIES
from rapo_ray.errors import ConfigError
from rapo_ray.types import Turn

PLAIN = "none"  # the name of the empty chain
LINK = "+"  # between the names of a chain's families, innermost first: `split+base64`

Chain = tuple[str, ...]  # names of families, innermost first


def parse_chain(name: str) -> Chain:
    """The chain of a name such as `none`, `base64` or `role_play+base64`; raises ConfigError for an unknown family."""
    chain = chain_of(name)
    if unknown := [one for one in chain if one not in FAMILIES]:
        raise ConfigError(
            f"attack {name!r} names {unknown[0]!r}, which is no family: take {PLAIN}, or names joined by {LINK} of "
            f"{', '.join(sorted(FAMILIES))}"
        )
    return chain


def chain_of(name: str) -> Chain:
    """The chain of a recorded name, whose families this version may not know."""
    return () if name == PLAIN else tuple(name.split(LINK))


def chain_name(chain: Chain) -> str:
    """Name that `parse_chain` reads."""
    return LINK.join(chain) or PLAIN


def apply_chain(chain: Chain, request: str, seed: int) -> str:
    """The request under the chain; the same for the same three arguments, on every machine."""
    generator = random.Random(f"{seed}/{chain_name(chain)}")
    for name in chain:
        request = FAMILIES[name].wrap(request, generator)
    return request


def lead_turns(chain: Chain, seed: int) -> tuple[Turn, ...]:
    """The user's turns that a chain puts before the request; none of a chain without a family that makes dialogues."""
    generator = random.Random(f"{seed}/{chain_name(chain)}/lead")
    leads = [lead for name in chain if (lead := FAMILIES[name].lead) is not None]
    return tuple(Turn("user", text) for lead in leads for text in lead(generator))


def undo_chain(chain: Chain, text: str) -> str | None:
    """The request that the chain was applied to; None where a family has no way back, or did not make the text."""
    for name in reversed(chain):
        plain = FAMILIES[name].unwrap(text)
        if plain is None:
            return None
        text = plain
    return text


def draw_chain(families: Sequence[str], length: int, generator: random.Random) -> Chain:
    """A chain of `length` different families in a random order; raises ConfigError where there are not so many."""
    names = list(dict.fromkeys(families))
    if not 0 <= length <= len(names):
        raise ConfigError(
            f"no chain of {length} different families can be drawn from {len(names)} ({', '.join(names) or 'none'}): "
            f"take a length from 0 to {len(names)}, or more families"
        )
    return tuple(generator.sample(names, length))
