"""Completions of forced thinking: written by engines that take the beginning of a completion, and judged."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from rapo_ray.evaluation.swaps import SwapRow, judged
from rapo_ray.roles import Judge, Writer
from rapo_ray.types import Draft, Prompt, Response


@dataclass(frozen=True, slots=True)
class Thought:
    """The beginning of a thinking; `closed` where the model has to answer right after it."""

    text: str
    closed: bool


Thoughts = Callable[[Sequence[Prompt]], Sequence[Thought | None]]


class ForcedResponder:
    """Engines whose responses continue from the thoughts that prompts are given; None leaves a model its own."""

    def __init__(self, writer: Writer, system_prompt: str | None, thoughts: Thoughts) -> None:
        self._writer = writer
        self._system_prompt = system_prompt
        self._thoughts = thoughts

    def respond(self, prompts_P: list[Prompt]) -> Iterator[list[Response]]:
        """One greedy response a prompt, the forced words included."""
        drafts = [
            Draft(self._system_prompt, prompt.text, turns=prompt.turns)
            if thought is None
            else Draft(self._system_prompt, prompt.text, thought.text, thought.closed, prompt.turns)
            for prompt, thought in zip(prompts_P, self._thoughts(prompts_P), strict=True)
        ]
        for group, generated in enumerate(self._writer.write(drafts)):
            yield [Response(group, 0, prompts_P[group].id, generated.text, generated.truncated)]

    def prompt_lengths(self, prompts: list[Prompt]) -> None:
        """None: a draft that leaves no room comes back truncated."""


def collect_swaps(
    planned: Sequence[SwapRow],
    before: Sequence[SwapRow],
    prompts: Mapping[str, Prompt],
    writer: Writer,
    judge: Judge,
    system_prompt: str | None,
) -> list[SwapRow]:
    """The planned swaps, written in one batch and judged in one; those that an earlier call wrote are not repeated.

    A swap whose judge failed in an earlier call is judged again.
    """
    earlier = {row.key: row for row in before}
    rows = [earlier.get(row.key, row) for row in planned]
    fresh = [index for index, row in enumerate(rows) if row.outcome == "planned"]
    responder = ForcedResponder(
        writer, system_prompt, lambda _: [Thought(rows[index].thinking, rows[index].closed) for index in fresh]
    )
    if fresh:
        for (response,) in responder.respond([prompts[rows[index].prompt_id] for index in fresh]):
            index = fresh[response.group]
            rows[index] = replace(rows[index], completion=response.text, truncated=response.truncated)
    return _judged(rows, prompts, judge)


def _judged(rows: Sequence[SwapRow], prompts: Mapping[str, Prompt], judge: Judge) -> list[SwapRow]:
    out = list(rows)
    open_rows = [index for index, row in enumerate(rows) if row.outcome in ("planned", "unscorable")]
    some = [rows[index] for index in open_rows]
    if not some:
        return out
    responses = [Response(place, 0, row.prompt_id, row.completion, row.truncated) for place, row in enumerate(some)]
    for response, completion, verdict in judge.score([prompts[row.prompt_id] for row in some], [responses]):
        index = open_rows[response.group]
        out[index] = judged(rows[index], completion, verdict)
    return out
