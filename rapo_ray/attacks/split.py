"""Families split into those that training may use and those that it never does."""

from collections.abc import Sequence
from dataclasses import dataclass

from rapo_ray.attacks.family import Mechanism
from rapo_ray.attacks.library import FAMILIES
from rapo_ray.errors import ConfigError

# Whole mechanisms, so that what is never trained differs from what is by more than its wording: two that change the
# words around the request, two that change the request's own.
HELD_OUT = (Mechanism.HYPOTHETICAL, Mechanism.HIJACK, Mechanism.LANGUAGE, Mechanism.FORMAT)

ONE_TURN = tuple(
    sorted(name for name, family in FAMILIES.items() if family.lead is None)
)  # those that make no dialogue


@dataclass(frozen=True, slots=True)
class FamilySplit:
    """Names of all families of one turn, each on one side, in alphabetical order.

    Families that make dialogues are on neither: they are evaluated by name, and chains are drawn of the others.
    """

    trained: tuple[str, ...]
    held_out: tuple[str, ...]


def split_families(held_out: Sequence[str] = HELD_OUT) -> FamilySplit:
    """The split that holds out the named families, and all families of the named mechanisms.

    Raises ConfigError for a name that is neither, and where a side has no family.
    """
    if unknown := [name for name in held_out if name not in FAMILIES and name not in set(Mechanism)]:
        raise ConfigError(
            f"held-out attacks name {', '.join(map(repr, unknown))}, no family and no mechanism: take families "
            f"({', '.join(sorted(FAMILIES))}) or mechanisms ({', '.join(sorted(Mechanism))})"
        )
    out = {name for name in ONE_TURN if name in held_out or FAMILIES[name].mechanism in held_out}
    if not out or len(out) == len(ONE_TURN):
        side, remedy = ("held out", "name one") if not out else ("left to train on", "name fewer")
        raise ConfigError(f"held-out attacks {', '.join(held_out) or 'none'}: no family is {side}; {remedy}")
    trained = tuple(sorted(set(ONE_TURN) - out))
    return FamilySplit(trained, tuple(sorted(out)))
