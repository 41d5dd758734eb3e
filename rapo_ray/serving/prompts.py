"""The prompts of requests, rendered as the engine renders them: the turns to send, and the thinking at their end."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rapo_ray.models.chat import ChatFormat, Conversation
from rapo_ray.models.chat_template import special_ids
from rapo_ray.serving.cuts import Strays
from rapo_ray.serving.problems import Problem
from rapo_ray.serving.reasoning import Beginning

BREAK = "\u200b"  # a space without width: it breaks a mark, and a reader sees none


@dataclass(frozen=True, slots=True)
class Prompt:
    """The turns for the engine, and the thinking at the end of the prompt that it renders of them."""

    turns: Conversation
    beginning: Beginning


class PromptReader:
    """Reader of prompts with the chat template of one model, trained with a system prompt of its own or without."""

    def __init__(self, tokenizer: Any, chat: ChatFormat, system_prompt: str | None = None) -> None:
        self._tokenizer = tokenizer
        self._chat = chat
        self._system_prompt = system_prompt
        self._marks = tuple(filter(None, (chat.close_mark, chat.open_mark, chat.direct_mark)))
        self.mark_tokens: tuple[str, ...] = tuple(tokenizer.convert_ids_to_tokens(list(chat.mark_ids)))
        """Special tokens in the marks."""
        others = special_ids(tokenizer).difference(chat.mark_ids) if chat.mark_ids else ()
        self.strays = Strays(tokenizer.convert_ids_to_tokens(sorted(others)))
        """Special tokens, besides the marks, that the engine writes out where it has to keep those of the marks."""

    def read(self, turns: Conversation, split: bool, withheld: bool = False) -> Prompt:
        """The prompt of a request's turns; raises Problem where the template refuses them.

        In `split` mode our answers hold no thinking, so a mark in an assistant's turn is a quotation. `withheld`
        breaks every mark but those of the model's own system prompt, so that the model has none to copy.
        """
        if withheld:
            turns = [turn if self._is_own(turn) else self._broken(turn) for turn in turns]
        turns = turns if self._chat.system else merge_system(turns)
        if split and not withheld:
            turns = self._quotable(turns)
        return Prompt(turns, self._beginning(turns))

    def _beginning(self, turns: Conversation) -> Beginning:
        """The thinking at the end of the prompt, which is over only if it is so without the marks in the turns too."""
        *earlier, last = turns
        continued = last["role"] == "assistant"
        quiet = [*map(self._broken, earlier), last if continued else self._broken(last)]
        prompt = self._render(turns)
        beginnings = {
            beginning_of(prompt, self._chat),
            beginning_of(prompt if quiet == turns else self._render(quiet), self._chat, continued),
        }
        if "opened" in beginnings:
            return "opened"
        return "closed" if beginnings == {"closed"} else "none"

    def _is_own(self, turn: dict[str, Any]) -> bool:
        return turn == {"role": "system", "content": self._system_prompt}

    def _broken(self, turn: dict[str, Any]) -> dict[str, Any]:
        """The turn with its marks broken: those in the prompt are the template's own then."""
        return {field: self._broken_text(text) for field, text in turn.items()}

    def _broken_text(self, text: str) -> str:
        for mark in (*self._marks, *self.mark_tokens):
            text = text.replace(mark, mark[0] + BREAK + mark[1:])
        return text

    def _quotable(self, turns: Conversation) -> Conversation:
        """Turns that the template renders whole, if answers quote a mark: some templates cut them, or refuse them."""
        texts = [turn["content"].strip() for turn in turns if self._quotes(turn)]
        without_thought = self._changed(turns, lambda turn: {**turn, "reasoning": ""})
        for changed in (turns, without_thought):
            if not texts or self._renders(changed, texts):
                return changed
        return self._changed(turns, self._broken)

    def _changed(self, turns: Conversation, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Conversation:
        return [change(turn) if self._quotes(turn) else turn for turn in turns]

    def _quotes(self, turn: dict[str, Any]) -> bool:
        return turn["role"] == "assistant" and any(mark in turn["content"] for mark in self._marks)

    def _renders(self, turns: Conversation, texts: list[str]) -> bool:
        try:
            prompt = self._render(turns)
        except Problem:
            return False
        return all(prompt.count(text) >= sum(turn["content"].count(text) for turn in turns) for text in texts)

    def _render(self, turns: Conversation) -> str:
        try:
            text: str = self._tokenizer.apply_chat_template(
                [self._as_vllm_gives(turn) for turn in turns],
                tokenize=False,
                add_generation_prompt=True,
                **self._chat.on,
            )
        except Exception:  # a template is code, and may raise anything
            raise Problem(
                400, "the model's chat template does not take these turns: check the order of their roles"
            ) from None
        return text

    def _as_vllm_gives(self, turn: dict[str, Any]) -> dict[str, Any]:
        content = [{"type": "text", "text": turn["content"]}] if self._chat.parts else turn["content"]
        thought = {"reasoning_content": turn["reasoning"]} if "reasoning" in turn else {}
        return {**turn, **thought, "content": content}


def beginning_of(prompt: str, chat: ChatFormat, continued: bool = False) -> Beginning:
    """The thinking at the end of a rendered prompt, or, in one that is `continued` from a turn, in its last opening."""
    tail = prompt.rstrip()
    closings = [
        mark for mark in (chat.close_mark, (chat.closing + chat.answer_start).strip(), chat.direct_mark) if mark
    ]
    _, opening, thought = tail.rpartition(chat.open_mark)
    over = any(mark in thought for mark in closings) if continued else thought != ""
    if opening and not over:
        return "opened"
    return "closed" if any(tail.endswith(mark) for mark in closings) else "none"


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
