"""A family of attacks: one transformation of a request, after one mechanism."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class Mechanism(StrEnum):
    """The weakness that a family of attacks works on."""

    PERSONA = "persona"
    HYPOTHETICAL = "hypothetical"
    PRESSURE = "pressure"  # authority and urgency
    SUPPRESSION = "suppression"  # refusal suppression and prefix injection
    ENCODING = "encoding"
    LANGUAGE = "language"
    SPLITTING = "splitting"  # payload splitting and variables
    FORMAT = "format"  # code and data formats
    NESTING = "nesting"
    MANY_SHOT = "many_shot"
    DISTRACTION = "distraction"
    HIJACK = "hijack"  # a written thought in the user's turn


@dataclass(frozen=True, slots=True)
class Family:
    """One transformation: `wrap` makes the attack from a request, `unwrap` the request from the attack.

    `unwrap` gives None for a text that the family did not make. A family without it keeps the request's words, not
    their spelling, and its module says what is lost.
    """

    name: str
    mechanism: Mechanism
    slots: tuple[str, ...]  # of its templates, `request` among them
    wrap: Callable[[str, random.Random], str]
    unwrap: Callable[[str], str | None] | None = None
