"""One call of a judging model: its question, the admissible replies, and the strict parsing of a reply.

Material is fenced off and inert; any reply that is not admissible is a failure with a status, never a score.
"""

import hashlib
import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rapo_ray.judging import rubrics
from rapo_ray.models.chat import PLAIN
from rapo_ray.types import Status

Style = Literal["choice", "label", "text", "guard"]
CHOICE_TOKENS = 96  # more than the longest JSON object has characters
LISTED = 12  # replies that a question lists whole, at most
LABELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"  # one token each in every tokenizer we know

_FENCED = re.compile(  # one code fence with an object and nothing else
    r"(?P<ticks>`{3,})(?:json)?\s*(?P<object>\{[^`]*\})\s*(?P=ticks)", re.IGNORECASE
)


class JudgeFailure(Exception):
    """A call without a usable reply."""

    def __init__(self, status: Status, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Field:
    """A name in the reply and its admissible values."""

    name: str
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat; the role `raw` is a complete input without a chat template."""

    role: Literal["system", "user", "assistant", "raw"]
    content: str


@dataclass(frozen=True, slots=True)
class Question:
    """A chat and its admissible replies: JSON objects (choice, text), letters for them (label), or a guard's format."""

    messages: tuple[Message, ...]
    options: tuple[str, ...]  # JSON objects; for a guard that replies with one token, the tokens
    style: Style

    @property
    def replies(self) -> tuple[str, ...]:
        """The admissible replies: letters, or the options themselves."""
        return tuple(LABELS[: len(self.options)]) if self.style == "label" else self.options

    @property
    def one_token(self) -> bool:
        """True where a reply is one token, whose probability is known."""
        return self.style == "label" or (self.style == "guard" and bool(self.options))


@dataclass(frozen=True, slots=True)
class Reply:
    """The model's text, its cost in tokens, and for a label question the probability of each reply."""

    text: str
    tokens: int
    probabilities: tuple[float, ...] | None = None
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """A parsed reply: values by name, tokens, and the probability of each option if the style provides it."""

    values: dict[str, Any]
    tokens: int
    options: tuple[dict[str, Any], ...]
    probabilities: tuple[float, ...] | None

    def probability(self, name: str, value: object) -> float | None:
        """Probability that `name` is `value`, or None where the style provides no probabilities."""
        if self.probabilities is None:
            return None
        return sum(p for option, p in zip(self.options, self.probabilities, strict=True) if option[name] == value)


def make_question(rubric: str, fields: Sequence[Field], style: Style, **material: Any) -> Question:
    """A question with the material between markers that it cannot know, every tag and chat token in it made inert.

    The material comes late, because an engine computes a common prefix of prompts only once.
    """
    names = [field.name for field in fields]
    options = tuple(
        json.dumps(dict(zip(names, values, strict=True)))
        for values in itertools.product(*(field.values for field in fields))
    )
    payload = json.dumps({name: _encodable(value) for name, value in material.items()}, ensure_ascii=False)
    payload = payload.replace("<", "\\u003c").replace("[", "\\u005b")  # the same JSON, but no tag and no [INST]
    nonce = hashlib.blake2b(payload.encode(), key=rubric.encode()[:64], digest_size=8).hexdigest()
    replies, instruction = _replies(fields, options, style)
    user = f"{rubric}\n{replies}\n\n=== {nonce} begins\n{payload}\n=== {nonce} ends\n\n{instruction}"
    return Question((Message("system", rubrics.SYSTEM), Message("user", user)), options, style)


def read_reply(question: Question, reply: Reply) -> Answer:
    """Parse a reply; raises JudgeFailure (truncated or parse) unless it is admissible."""
    if reply.truncated:
        raise JudgeFailure(Status.TRUNCATED, "the reply was cut at its token limit")
    text = reply.text.rpartition(PLAIN.close_mark)[2].strip()
    options = tuple(json.loads(option) for option in question.options)
    if question.style == "label":
        if text not in question.replies:
            raise JudgeFailure(Status.PARSE, f"the reply is {text[:40]!r}, not one of {', '.join(question.replies)}")
        return Answer(options[question.replies.index(text)], reply.tokens, options, reply.probabilities)
    try:
        fenced = _FENCED.fullmatch(text)
        values = json.loads(fenced["object"] if fenced else text, object_pairs_hook=_object)
    except (ValueError, RecursionError):
        raise JudgeFailure(Status.PARSE, "the reply is not JSON") from None
    if not any(_same(values, option) for option in options):
        raise JudgeFailure(Status.PARSE, f"the reply {text[:80]!r} is none of {', '.join(question.options[:4])}")
    return Answer(values, reply.tokens, options, reply.probabilities)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these pairs; a name that comes twice contradicts itself or repeats itself, and is no verdict."""
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a name comes twice")
    return values


def _same(values: Any, option: dict[str, Any]) -> bool:
    """True where both are equal in value and type: `true` is not 1, and 1.0 is not a level."""
    if not isinstance(values, dict) or set(values) != set(option):
        return False
    return all(type(values[name]) is type(option[name]) and values[name] == option[name] for name in option)


def _replies(fields: Sequence[Field], options: Sequence[str], style: Style) -> tuple[str, str]:
    """The admissible replies, for before the material, and the instruction to reply, for after it.

    More than LISTED of them would be longer than most material: they are told by their form, or without their names.
    """
    many = len(options) > LISTED
    if style == "label":
        labels = LABELS[: len(options)]
        shown = [", ".join(_bare(value) for value in json.loads(one).values()) if many else one for one in options]
        listed = " ".join(f"{label}: {one}" for label, one in zip(labels, shown, strict=True))
        names = f"{', '.join(field.name for field in fields)}. " if many else ""
        return f"Replies: {names}{listed}", f"Reply with one letter: {', '.join(labels)}."
    if many:
        form = ", ".join(f'"{field.name}": {"|".join(map(json.dumps, field.values))}' for field in fields)
        return f"Replies: {{{form}}}", "Reply with such a JSON object, one value a name."
    return f"Replies: {' '.join(options)}", "Reply with one of the JSON objects above the material."


def _bare(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _encodable(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _encodable(each) for name, each in value.items()}
    return value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else value
