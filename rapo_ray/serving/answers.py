"""Answers as callers get them: with thinking split off, inline or withheld, and stamped with the weights' version."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from rapo_ray.config.serving import Reasoning
from rapo_ray.judging.rules import is_refusal
from rapo_ray.judging.sentences import count_sentences
from rapo_ray.serving.reasoning import ThinkSplitter, split_whole

DATA = "data: "
DONE = "[DONE]"


@dataclass(frozen=True, slots=True)
class Shape:
    """The form of an answer."""

    reasoning: Reasoning
    withheld: bool
    fingerprint: str
    usage: bool  # True where the caller wants a stream's usage


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
        text = message.get("content") or ""
        reasoning, content = split_whole(text)
        seen.add(reasoning, content)
        inline = shape.reasoning == "inline" and not shape.withheld
        choice["message"] = {"role": message.get("role", "assistant"), "content": text if inline else content}
        if not inline:
            choice["message"]["reasoning_content"] = None if shape.withheld else reasoning
        if shape.withheld:
            choice["logprobs"] = None  # they would spell the thinking out
    seen.completion_tokens += _tokens(answer)
    return {**_without_nulls(answer), "system_fingerprint": shape.fingerprint}


def shape_plain(answer: dict[str, Any], shape: Shape, seen: Seen) -> dict[str, Any]:
    """Shape a whole plain completion, or one event of its stream."""
    seen.completion_tokens += _tokens(answer)
    return {**_without_nulls(answer), "system_fingerprint": shape.fingerprint}


async def shape_stream(
    events: AsyncIterator[dict[str, Any]], shape: Shape, seen: Seen, chat: bool
) -> AsyncIterator[dict[str, Any]]:
    """Shape the events of a stream, separating the thinking as it arrives."""
    parts: dict[int, _ChoiceStream] = {}
    async for event in events:
        if not chat:
            plain = shape_plain(event, shape, seen)
            if shape.usage or plain["choices"]:
                yield plain
            continue
        seen.completion_tokens += _tokens(event)
        common: dict[str, Any] = {name: event[name] for name in ("id", "object", "created", "model") if name in event}
        common["system_fingerprint"] = shape.fingerprint
        for choice in event.get("choices", []):
            stream = parts.setdefault(choice["index"], _ChoiceStream(shape))
            for shaped in stream.feed(choice):
                yield {**common, "choices": [shaped]}
            if choice.get("finish_reason") is not None:
                seen.add(stream.reasoning, stream.content)
        if event.get("usage") is not None and shape.usage:
            yield {**common, "choices": [], "usage": event["usage"]}


class _ChoiceStream:
    """State of one choice of a stream."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._inline = shape.reasoning == "inline" and not shape.withheld
        self._splitter = ThinkSplitter()
        self.reasoning = ""
        self.content = ""

    def feed(self, choice: dict[str, Any]) -> list[dict[str, Any]]:
        """The choice's outgoing events for one incoming event; none while all of its text is held back."""
        delta, finish = choice["delta"], choice.get("finish_reason")
        text = delta.get("content") or ""
        pieces = self._splitter.feed(text)
        if finish is not None:
            pieces += self._splitter.finish()
        for kind, piece in pieces:
            if kind == "reasoning":
                self.reasoning += piece
            else:
                self.content += piece
        deltas = [{"role": delta["role"], "content": ""}] if delta.get("role") else []
        if self._inline:
            deltas += [{"content": text}] if text else []
        else:
            names = {"content": "content", "reasoning": "reasoning_content"}
            deltas += [{names[kind]: piece} for kind, piece in pieces if kind == "content" or not self._shape.withheld]
        if finish is not None and not deltas:
            deltas = [{}]
        logprobs = None if self._shape.withheld else choice.get("logprobs")
        last = len(deltas) - 1
        return [
            {
                "index": choice["index"],
                "delta": one,
                "logprobs": logprobs if number == last else None,
                "finish_reason": finish if number == last else None,
            }
            for number, one in enumerate(deltas)
        ]


def read_events(batch: str) -> list[dict[str, Any]]:
    """Parse the server-sent events in a piece of a stream, without the closing `[DONE]`."""
    lines = (line[len(DATA) :] for line in batch.splitlines() if line.startswith(DATA))
    return [json.loads(line) for line in lines if line.strip() != DONE]


def write_event(event: dict[str, Any]) -> str:
    """Format one server-sent event."""
    return f"{DATA}{json.dumps(event, ensure_ascii=False)}\n\n"


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
