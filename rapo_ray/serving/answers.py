"""Answers as callers get them: with thinking split off, inline or withheld, and stamped with the weights' version."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Literal

from rapo_ray.config.serving import Reasoning
from rapo_ray.errors import ServingError
from rapo_ray.models.chat import PLAIN, ChatFormat
from rapo_ray.serving.cuts import NO_STRAYS, SEPARATOR, StopCutter, Strays, TokenStripper, Trimmer
from rapo_ray.serving.reasoning import Beginning, Piece, ThinkSplitter
from rapo_ray.text.lines import LineReader
from rapo_ray.text.refusals import is_refusal
from rapo_ray.text.sentences import count_sentences

DATA = "data:"
DONE = "[DONE]"


@dataclass(frozen=True, slots=True)
class Shape:
    """The form of an answer."""

    reasoning: Reasoning
    withheld: bool
    fingerprint: str
    usage: bool  # True where the caller wants a stream's usage
    names: tuple[str, ...] = ("reasoning_content", "reasoning")  # of the field for the thinking
    chat: ChatFormat = PLAIN
    beginning: Beginning = "none"
    stops: tuple[str, ...] = ()  # strings that end the answer, where the engine is not told them
    strays: Strays = NO_STRAYS
    mark_tokens: tuple[str, ...] = ()  # special tokens in the marks
    n: int = 1

    @property
    def inline(self) -> bool:
        """True where the thinking stays in the text."""
        return self.reasoning == "inline" and not self.withheld


@dataclass(slots=True)
class Seen:
    """Statistics of a finished chat answer, for the metrics, without its text."""

    completion_tokens: int = 0
    refusals: int = 0
    trace_sentences: list[int] = field(default_factory=list)

    def add(self, reasoning: str, content: str) -> None:
        """Count one completion."""
        self.refusals += is_refusal(content)
        self.trace_sentences.append(count_sentences(reasoning))


def shape_whole(answer: dict[str, Any], shape: Shape, seen: Seen) -> dict[str, Any]:
    """Shape a whole chat completion."""
    for choice in answer["choices"]:
        message = choice["message"]
        text = ChoiceText(shape)
        shown, _ = text.feed(message.get("content") or "", choice.get("finish_reason"))
        seen.add(**text.texts)
        content = shown if shape.inline else text.texts["content"]
        choice["message"] = _message(shape, message.get("role", "assistant"), content, text.texts["reasoning"])
        if shape.withheld:
            choice["logprobs"] = None  # they would spell the thinking out
    return _stamped(answer, shape, seen)


def shape_plain(answer: dict[str, Any], shape: Shape, seen: Seen) -> dict[str, Any]:
    """Shape a whole plain completion."""
    _strip(answer, shape, {})
    return _stamped(answer, shape, seen)


def _strip(answer: dict[str, Any], shape: Shape, strippers: dict[int, TokenStripper]) -> None:
    """Take the stray tokens out of the choices of a plain completion, or of one event of its stream."""
    for choice in answer["choices"]:
        stripper = strippers.setdefault(choice["index"], TokenStripper(shape.strays))
        text = stripper.feed(choice["text"], last=choice.get("finish_reason") is not None)
        choice["text"] = text.replace(SEPARATOR, "")


def _stamped(answer: dict[str, Any], shape: Shape, seen: Seen) -> dict[str, Any]:
    seen.completion_tokens += _tokens(answer)
    return {**_without_nulls(answer), "system_fingerprint": shape.fingerprint}


async def shape_plain_stream(
    events: AsyncIterator[dict[str, Any]], shape: Shape, seen: Seen
) -> AsyncIterator[dict[str, Any]]:
    """Shape the events of a plain completion's stream; raises ServingError where a choice has no end."""
    strippers: dict[int, TokenStripper] = {}
    done: set[int] = set()
    async for event in events:
        _strip(event, shape, strippers)
        done.update(choice["index"] for choice in event["choices"] if choice.get("finish_reason") is not None)
        plain = _stamped(event, shape, seen)
        if shape.usage or plain["choices"]:
            yield plain
    _check_finished(len(done), shape)


def _check_finished(choices: int, shape: Shape) -> None:
    if choices < shape.n:
        raise ServingError(f"the engine's stream ended with {choices} of {shape.n} choices finished")


async def shape_stream(
    events: AsyncIterator[dict[str, Any]], shape: Shape, seen: Seen
) -> AsyncIterator[dict[str, Any]]:
    """Shape the events of a chat completion's stream, separating the thinking as it arrives.

    It ends before the engine's stream does where a stop string has ended the last of the choices; raises ServingError
    where a choice has no end.
    """
    choices: dict[int, _ChoiceStream] = {}
    usage = _Usage()
    common: dict[str, Any] = {}
    async for event in events:
        common = {name: event[name] for name in ("id", "object", "created", "model") if name in event}
        common["system_fingerprint"] = shape.fingerprint
        usage.add(event)
        for choice in event.get("choices", []):
            stream = choices.setdefault(choice["index"], _ChoiceStream(shape))
            if stream.finished:
                continue
            for shaped in stream.feed(choice):
                yield {**common, "choices": [shaped]}
            if stream.finished:
                seen.add(**stream.text.texts)
        done = [stream for stream in choices.values() if stream.finished]
        if len(done) == shape.n and any(stream.text.stopped for stream in done):
            break
    _check_finished(sum(stream.finished for stream in choices.values()), shape)
    seen.completion_tokens += _tokens({"usage": usage.total})
    if usage.total is not None and shape.usage:
        yield {**common, "choices": [], "usage": usage.total}


async def collect(events: AsyncIterator[dict[str, Any]], shape: Shape) -> dict[str, Any]:
    """The whole chat completion of a shaped stream with its usage."""
    answer: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    async for event in events:
        answer |= {name: value for name, value in event.items() if name != "choices"}
        for part in event["choices"]:
            choice = choices.setdefault(part["index"], _empty_choice(part["index"], shape))
            for name, text in part["delta"].items():
                if name != "role":
                    choice["message"][name] += text
            if part["logprobs"] is not None:
                choice["logprobs"] = _joined(choice["logprobs"], part["logprobs"])
            choice["finish_reason"] = part["finish_reason"]
    return {**answer, "object": "chat.completion", "choices": [choices[index] for index in sorted(choices)]}


def _empty_choice(index: int, shape: Shape) -> dict[str, Any]:
    return {"index": index, "message": _message(shape, "assistant", "", ""), "logprobs": None, "finish_reason": None}


def _message(shape: Shape, role: str, content: str, reasoning: str) -> dict[str, Any]:
    names = () if shape.inline else shape.names
    return {"role": role, "content": content, **dict.fromkeys(names, None if shape.withheld else reasoning)}


class ChoiceText:
    """The text of one choice: without stray tokens, split, cut at a stop string, and trimmed."""

    def __init__(self, shape: Shape) -> None:
        self._stripper = TokenStripper(shape.strays)
        self._splitter = ThinkSplitter(shape.chat, shape.beginning, shape.withheld, shape.mark_tokens)
        self._cutter = StopCutter(shape.stops)
        self._trimmers = {"reasoning": Trimmer(), "content": Trimmer()}
        self.texts = {"reasoning": "", "content": ""}

    @property
    def stopped(self) -> bool:
        """True once a stop string has ended the answer."""
        return self._cutter.stopped

    def feed(self, text: str, finish: str | None) -> tuple[str, list[Piece]]:
        """Add text, the last of it with a finish reason: the text in one, and in pieces."""
        text = self._stripper.feed(text, last=finish is not None)
        split = self._splitter.feed(text)
        if finish:
            split += self._splitter.finish(truncated=finish == "length")
        cut = [self._cut(kind, piece.replace(SEPARATOR, "")) for kind, piece in split]
        if finish:
            cut.append(("content", self._cutter.finish()))
        pieces: list[Piece] = [(kind, self._trimmers[kind].feed(piece)) for kind, piece in cut]
        for kind, piece in pieces:
            self.texts[kind] += piece
        return text.replace(SEPARATOR, ""), [piece for piece in pieces if piece[1]]

    def _cut(self, kind: Literal["reasoning", "content"], piece: str) -> Piece:
        return kind, self._cutter.feed(piece) if kind == "content" else piece


class _ChoiceStream:
    """State of one choice of a stream."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._logprobs: dict[str, Any] | None = None  # of text that is held back
        self.text = ChoiceText(shape)
        self.finished = False

    def feed(self, choice: dict[str, Any]) -> list[dict[str, Any]]:
        """The choice's outgoing events for one incoming event; none while all of its text is held back."""
        delta, finish = choice["delta"], choice.get("finish_reason")
        text, pieces = self.text.feed(delta.get("content") or "", finish)
        if self.text.stopped:
            finish = "stop"
        self.finished = finish is not None
        deltas = [{"role": delta["role"], "content": ""}] if delta.get("role") else []
        if self._shape.inline:
            deltas += [{"content": text}] if text else []
        else:
            names = {"content": ("content",), "reasoning": () if self._shape.withheld else self._shape.names}
            deltas += [dict.fromkeys(names[kind], piece) for kind, piece in pieces if names[kind]]
        if self.finished and not deltas:
            deltas = [{}]
        if not self._shape.withheld and choice.get("logprobs") is not None:
            self._logprobs = _joined(self._logprobs, choice["logprobs"])
        shaped = [{"index": choice["index"], "delta": one, "logprobs": None, "finish_reason": None} for one in deltas]
        if shaped:
            shaped[-1] |= {"logprobs": self._logprobs, "finish_reason": finish}
            self._logprobs = None
        return shaped


class _Usage:
    """The usage of a stream: the engine's total, or the sum over its choices where it was ended early."""

    def __init__(self) -> None:
        self._by_choice: dict[int, dict[str, Any]] = {}
        self._total: dict[str, Any] | None = None

    def add(self, event: dict[str, Any]) -> None:
        """Read an event."""
        if event.get("usage") is None:
            return
        if not event.get("choices"):
            self._total = event["usage"]
        for choice in event.get("choices", []):
            self._by_choice[choice["index"]] = event["usage"]

    @property
    def total(self) -> dict[str, Any] | None:
        """The usage so far."""
        if self._total is not None or not self._by_choice:
            return self._total
        prompt = max(usage["prompt_tokens"] for usage in self._by_choice.values())
        completion = sum(_tokens({"usage": usage}) for usage in self._by_choice.values())
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


class EventReader:
    """Server-sent events of a stream that arrives in pieces, without the closing `[DONE]`."""

    def __init__(self) -> None:
        self._lines = LineReader()
        self._data: list[str] = []

    def feed(self, piece: str | bytes) -> list[dict[str, Any]]:
        """The events that end in this piece; an empty line ends each."""
        texts = []
        for line in self._lines.feed(piece):
            if line.startswith(DATA):
                self._data.append(line.removeprefix(DATA))
            elif not line and self._data:
                texts.append("\n".join(self._data).strip())
                self._data = []
        return [json.loads(text) for text in texts if text != DONE]


def write_event(event: dict[str, Any]) -> str:
    """Format one server-sent event."""
    return f"{DATA} {json.dumps(event, ensure_ascii=False)}\n\n"


def _joined(first: dict[str, Any] | None, second: dict[str, Any]) -> dict[str, Any]:
    """The log-probs of two consecutive texts."""
    return {**second, "content": [*((first or {}).get("content") or []), *(second.get("content") or [])]}


def _tokens(answer: dict[str, Any]) -> int:
    usage = answer.get("usage") or {}
    return int(usage.get("completion_tokens") or 0)


def _without_nulls(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer without vLLM's extension fields, which are all null."""
    fields = {name: value for name, value in answer.items() if value is not None}
    if "choices" in fields:
        names = ("index", "message", "text", "logprobs", "finish_reason")
        fields["choices"] = [{name: choice[name] for name in names if name in choice} for choice in fields["choices"]]
    return fields
