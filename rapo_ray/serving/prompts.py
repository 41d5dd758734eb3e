"""The prompts of requests, rendered as the engine renders them: the turns to send, and the thinking at their end."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rapo_ray.models.chat import ChatFormat, Conversation
from rapo_ray.models.chat_template import special_ids
from rapo_ray.serving.problems import Problem
from rapo_ray.serving.reasoning import Beginning

BREAK = "\u200b"  # a space without width: it breaks a mark, and a reader sees none


@dataclass(frozen=True, slots=True)
class Prompt:
    """The turns for the engine, and the thinking at the end of the prompt that it renders of them."""

    turns: Conversation
    beginning: Beginning


class PromptReader:
    """Reader of prompts with the chat template of one model."""

    def __init__(self, tokenizer: Any, chat: ChatFormat) -> None:
        self._tokenizer = tokenizer
        self._chat = chat

    @property
    def stray_tokens(self) -> tuple[str, ...]:
        """Special tokens, besides the marks, that the engine writes out where it has to keep those of the marks."""
        if not self._chat.mark_ids:
            return ()
        ids = special_ids(self._tokenizer).difference(self._chat.mark_ids)
        tokens: list[str] = self._tokenizer.convert_ids_to_tokens(sorted(ids))
        return tuple(sorted(tokens, key=len, reverse=True))

    def read(self, turns: Conversation, split: bool) -> Prompt:
        """The prompt of a request's turns; raises Problem where the template refuses them.

        In `split` mode our answers hold no thinking, so a mark in an assistant's turn is a quotation.
        """
        turns = turns if self._chat.system else merge_system(turns)
        beginning = beginning_of(self._render([self._quiet(turn) for turn in turns]), self._chat)
        if split:
            turns = [self._quotable(turns, number) for number in range(len(turns))]
        return Prompt(turns, beginning)

    def _quiet(self, turn: dict[str, Any]) -> dict[str, Any]:
        """The turn without marks, which are the template's own then."""
        return {**turn, "content": self._chat.inert(turn["content"])}

    def _quotable(self, turns: Conversation, number: int) -> dict[str, Any]:
        """A turn that the template renders whole, if it quotes a mark: some templates cut it there, or refuse it."""
        turn, chat = turns[number], self._chat
        text = turn["content"].strip()
        marks = [mark for mark in (chat.close_mark, chat.open_mark, chat.direct_mark) if mark and mark in text]
        if turn["role"] != "assistant" or not marks or text.startswith(chat.open_mark):
            return turn
        without_thought = {**turn, "reasoning": ""}  # vLLM gives it to the template as `reasoning_content` too
        for changed in (turn, without_thought):
            if self._renders(turns, number, changed, text):
                return changed
        for mark in marks:
            text = text.replace(mark, mark[0] + BREAK + mark[1:])
        return {**turn, "content": text}

    def _renders(self, turns: Conversation, number: int, turn: dict[str, Any], text: str) -> bool:
        rendered_turn = {**turn, "reasoning_content": turn["reasoning"]} if "reasoning" in turn else turn
        try:
            rendered = self._render([*turns[:number], rendered_turn, *turns[number + 1 :]])
        except Problem:
            return False
        quoted: int = sum(one["content"].count(text) for one in turns)
        return rendered.count(text) >= quoted

    def _render(self, turns: Conversation) -> str:
        try:
            text: str = self._tokenizer.apply_chat_template(
                [self._in_parts(turn) for turn in turns], tokenize=False, add_generation_prompt=True, **self._chat.on
            )
        except Exception:  # a template is code, and may raise anything
            raise Problem(
                400, "the model's chat template does not take these turns: check the order of their roles"
            ) from None
        return text

    def _in_parts(self, turn: dict[str, Any]) -> dict[str, Any]:
        return {**turn, "content": [{"type": "text", "text": turn["content"]}]} if self._chat.parts else turn


def beginning_of(prompt: str, chat: ChatFormat) -> Beginning:
    """The thinking at the end of a rendered prompt."""
    tail = prompt.rstrip()
    closings = (chat.close_mark, (chat.closing + chat.answer_start).strip(), chat.direct_mark)
    if any(mark and tail.endswith(mark) for mark in closings):
        return "closed"
    return "opened" if tail.endswith(chat.open_mark) else "none"


def merge_system(turns: Sequence[dict[str, Any]]) -> Conversation:
    """The turns with each system turn's text in front of the next user's text, for templates without system turns."""
    merged: Conversation = []
    waiting: list[str] = []
    for turn in turns:
        if turn["role"] == "system":
            waiting.append(turn["content"])
        elif turn["role"] == "user" and waiting:
            merged.append({**turn, "content": "\n\n".join([*waiting, turn["content"]])})
            waiting = []
        else:
            merged.append(turn)
    return [*merged, {"role": "user", "content": "\n\n".join(waiting)}] if waiting else merged
