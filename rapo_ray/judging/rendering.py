"""The prompt that a chat template makes of a judge's question, with all of its material in it (pure).

Some templates read contents as parts only (Llama-Guard-3-1B, Llama-Guard-3-11B-Vision) and drop a plain text without an
error; others drop a whole turn. A judge that sees no material still replies, so its reply must not become a verdict.
"""

from collections.abc import Callable, Sequence
from typing import Any

from rapo_ray.errors import EngineError
from rapo_ray.judging.questions import JudgeFailure, Message
from rapo_ray.types import Status

Turn = dict[str, Any]  # a role, and a content that is a text or a list of parts


def rendered(messages: Sequence[Message], render: Callable[[list[Turn]], str]) -> str:
    """The prompt with the messages as plain texts or, where the template drops some of those or fails, as parts.

    Raises JudgeFailure (transport) where it drops some as parts too, and EngineError where it fails on both.
    """
    texts: list[Turn] = [{"role": message.role, "content": message.content} for message in messages]
    parts = [turn | {"content": [{"type": "text", "text": turn["content"]}]} for turn in texts]
    problems: list[JudgeFailure | EngineError] = []
    for turns in (texts, parts):
        try:
            prompt = render(turns)
        except EngineError as error:
            problems.append(error)
            continue
        missing = dropped(messages, prompt) or _written_down(turns, prompt)
        if not missing:
            return prompt
        problems.append(_failure(missing))
    raise problems[0]


def check_complete(messages: Sequence[Message], prompt: str) -> None:
    """Raises JudgeFailure (transport) where a prompt lacks the text of a message."""
    if missing := dropped(messages, prompt):
        raise _failure(missing)


def dropped(messages: Sequence[Message], prompt: str) -> list[str]:
    """Roles of the messages whose text, blanks around it not counted, has no place of its own in the prompt."""
    missing: list[str] = []
    for message in sorted(messages, key=lambda message: len(message.content), reverse=True):
        text = message.content.strip()
        if text and text not in prompt:
            missing.append(message.role)
        elif text:
            prompt = prompt.replace(text, "\0", 1)
    return missing


def _written_down(turns: Sequence[Turn], prompt: str) -> list[str]:
    """Roles of the turns whose list of parts the template wrote down as it is instead of reading it."""
    return [turn["role"] for turn in turns if isinstance(turn["content"], list) and str(turn["content"]) in prompt]


def _failure(missing: list[str]) -> JudgeFailure:
    return JudgeFailure(
        Status.TRANSPORT,
        f"the chat template of the judge's model drops the text of {', '.join(missing)}, as a string and as parts: "
        "the judge would not see it; use a model whose template shows it",
    )
