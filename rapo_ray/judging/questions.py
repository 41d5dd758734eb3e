"""One call of a judging model: what it is sent, the only replies that count, and how a reply is read.

Material is fenced off and inert; a reply is read strictly, and anything else is a failure with a status, never a score.
"""

import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rapo_ray.judging import rubrics
from rapo_ray.types import Status

Style = Literal["choice", "label", "text", "guard"]
LABELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"  # one token each in every tokenizer we know


class JudgeFailure(Exception):
    """A call that gave no usable reply."""

    def __init__(self, status: Status, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Field:
    """A name in the reply and the values it may take."""

    name: str
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat; the role `raw` is a whole input that no chat template goes around."""

    role: Literal["system", "user", "assistant", "raw"]
    content: str


@dataclass(frozen=True, slots=True)
class Question:
    """A chat and the replies that count: JSON objects (choice, text), one letter for each (label), or a guard's own."""

    messages: tuple[Message, ...]
    options: tuple[str, ...]  # JSON objects
    style: Style

    @property
    def replies(self) -> tuple[str, ...]:
        """What the model may say: letters, or the JSON objects themselves."""
        return tuple(LABELS[: len(self.options)]) if self.style == "label" else self.options


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model said, what it cost, and over a label question how likely each reply was."""

    text: str
    tokens: int
    probabilities: tuple[float, ...] | None = None
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply as values by name, its tokens, and the probability of each option where the style gives it."""

    values: dict[str, Any]
    tokens: int
    options: tuple[dict[str, Any], ...]
    probabilities: tuple[float, ...] | None

    def probability(self, name: str, value: object) -> float | None:
        """How likely `name` was `value`, or None where the style gives no probabilities."""
        if self.probabilities is None:
            return None
        return sum(p for option, p in zip(self.options, self.probabilities, strict=True) if option[name] == value)


def make_question(rubric: str, fields: Sequence[Field], style: Style, **material: Any) -> Question:
    """Fence the material off behind markers it cannot know, with every tag and chat token in it made inert.

    The material comes late: an engine computes what prompts begin with in common once.
    """
    names = [field.name for field in fields]
    options = tuple(
        json.dumps(dict(zip(names, values, strict=True)))
        for values in itertools.product(*(field.values for field in fields))
    )
    payload = json.dumps({name: _encodable(value) for name, value in material.items()}, ensure_ascii=False)
    payload = payload.replace("<", "\\u003c").replace("[", "\\u005b")  # the same JSON, but no tag and no [INST]
    nonce = hashlib.blake2b(payload.encode(), key=rubric.encode()[:64], digest_size=8).hexdigest()
    replies, how = _replies(options, style)
    user = f"{rubric}\n{replies}\n\n=== {nonce} begins\n{payload}\n=== {nonce} ends\n\n{how}"
    return Question((Message("system", rubrics.SYSTEM), Message("user", user)), options, style)


def read_reply(question: Question, reply: Reply) -> Answer:
    """The reply's values; raises JudgeFailure (truncated or parse) for anything that was not asked for."""
    if reply.truncated:
        raise JudgeFailure(Status.TRUNCATED, "the reply was cut at its token limit")
    said = reply.text.rpartition("</think>")[2].strip() if question.style == "text" else reply.text
    options = tuple(json.loads(option) for option in question.options)
    if question.style == "label":
        if said not in question.replies:
            raise JudgeFailure(Status.PARSE, f"the reply is {said[:40]!r}, not one of {', '.join(question.replies)}")
        return Answer(options[question.replies.index(said)], reply.tokens, options, reply.probabilities)
    try:
        values = json.loads(said)
    except (ValueError, RecursionError):
        raise JudgeFailure(Status.PARSE, "the reply is not JSON") from None
    if not any(_same(values, option) for option in options):
        raise JudgeFailure(Status.PARSE, f"the reply {said[:80]!r} is none of {', '.join(question.options[:4])}")
    return Answer(values, reply.tokens, options, reply.probabilities)


def _same(values: Any, option: dict[str, Any]) -> bool:
    """Equal in type too: neither is true 1 nor 1.0 a level."""
    if not isinstance(values, dict) or set(values) != set(option):
        return False
    return all(type(values[name]) is type(option[name]) and values[name] == option[name] for name in option)


def _replies(options: Sequence[str], style: Style) -> tuple[str, str]:
    """What the replies are, to go before the material, and how to reply, to go after it."""
    if style == "label":
        labels = LABELS[: len(options)]
        listed = " ".join(f"{label}: {option}" for label, option in zip(labels, options, strict=True))
        return f"Replies: {listed}", f"Reply with one letter: {', '.join(labels)}."
    return f"Replies: {' '.join(options)}", "Reply with one of the JSON objects above the material."


def _encodable(value: Any) -> Any:
    return value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else value
