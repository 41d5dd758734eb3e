"""A family of attacks: one transformation of a request, after one mechanism."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import product

REQUEST = "{request}"  # the slot of a template that the encoded request goes to

Lead = Callable[[random.Random], tuple[str, ...]]  # the user's turns before the one with the request
Frame = tuple[str, str]  # the text before and after the encoded request


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
    ESCALATION = "escalation"  # over the turns of a dialogue


def same(text: str) -> str:
    """The text itself: the coding of a family that changes no letter of the request."""
    return text


@dataclass(frozen=True, slots=True)
class Family:
    """One transformation: the request, encoded, inside one of some frames.

    A family without `decode` keeps the request's words, not their spelling, and its module says what is lost.
    """

    name: str
    mechanism: Mechanism
    slots: tuple[str, ...]  # of its templates, `request` first
    frames: tuple[Frame, ...]
    encode: Callable[[str], str] = same
    decode: Callable[[str], str] | None = same  # raises ValueError for what `encode` does not give
    lead: Lead | None = None  # of a family that makes a dialogue, whose last turn the frames are

    def wrap(self, request: str, generator: random.Random) -> str:
        """The attack. One frame is drawn, from the generator alone: a benign twin gets the same one."""
        before, after = generator.choice(self.frames)
        return f"{before}{self.encode(request)}{after}"

    def unwrap(self, text: str) -> str | None:
        """The request of an attack; None for a text that the family did not make, and where nothing decodes it."""
        if self.decode is None:
            return None
        for before, after in self.frames:
            if text.startswith(before) and text.endswith(after) and len(text) >= len(before) + len(after):
                payload = text[len(before) : len(text) - len(after)]
                try:
                    request = self.decode(payload)
                except ValueError:
                    return None
                return request if self.encode(request) == payload else None
        return None


def framed(
    name: str,
    mechanism: Mechanism,
    templates: Sequence[str],
    values: Mapping[str, Sequence[str]] | None = None,
    encode: Callable[[str], str] = same,
    decode: Callable[[str], str] | None = same,
    lead: Lead | None = None,
) -> Family:
    """A family of templates, each with `{request}` once; its frames are all of them under all values of their slots."""
    values = values or {}
    frames = tuple(frame for template in templates for frame in _frames(template, values))
    return Family(name, mechanism, ("request", *values), frames, encode, decode, lead)


def _frames(template: str, values: Mapping[str, Sequence[str]]) -> list[Frame]:
    used = [slot for slot in values if f"{{{slot}}}" in template]
    frames = []
    for choice in product(*(values[slot] for slot in used)):
        text = template
        for slot, value in zip(used, choice, strict=True):
            text = text.replace(f"{{{slot}}}", value)
        before, _, after = text.partition(REQUEST)
        frames.append((before, after))
    return frames
