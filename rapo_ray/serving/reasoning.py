"""Separation of thinking and answer in a streamed completion, by its text, which works for any model (pure)."""

import re
from collections.abc import Iterable
from typing import Literal

from rapo_ray.models.chat import ChatFormat

Piece = tuple[Literal["reasoning", "content"], str]
Beginning = Literal["opened", "closed", "none"]
"""The thinking at the end of a rendered prompt: begun, over, or left to the model to open."""
_End = Literal["truncated", "complete"] | None
_State = Literal["start", "thought_start", "thought", "answer_start", "content_start", "content"]


class ThinkSplitter:
    """Splitter of a completion that arrives in pieces; text that could still become a mark is held back."""

    def __init__(self, chat: ChatFormat, beginning: Beginning, strict: bool = False) -> None:
        """Split by a format's marks.

        `strict` never takes text in front of a closing mark for the answer, nor a thought that an answer opens again:
        at the start of a line, as a mark of plain text may also be quoted.
        """
        self._chat = chat
        line_start = "" if chat.mark_ids else r"\n\s*"
        self._reopening = re.compile(line_start + re.escape(chat.open_mark)) if strict else None
        self._gap = ""  # between two parts of an answer
        thinks = beginning == "opened" or (strict and beginning == "none")
        self._unmarked: _State = "thought_start" if thinks else "answer_start"
        self._state: _State = "start"
        self._held = ""

    def feed(self, text: str) -> list[Piece]:
        """Add text and return the pieces that are now certain."""
        self._held += text
        return self._advance(None)

    def finish(self, truncated: bool = False) -> list[Piece]:
        """The remaining pieces, once the completion has ended; a truncated one loses the part of a mark at its end."""
        return self._advance("truncated" if truncated else "complete")

    def _advance(self, end: _End) -> list[Piece]:
        pieces: list[Piece] = []
        while self._step(pieces, end):
            pass
        return [piece for piece in pieces if piece[1]]

    def _step(self, pieces: list[Piece], end: _End) -> bool:
        """Take one step of the state machine; False where it needs more text."""
        match self._state:
            case "start":
                marks: dict[str, _State] = {
                    self._chat.open_mark: "thought_start",
                    self._chat.direct_mark: "answer_start",
                }
                return self._begin(marks, self._unmarked, end)
            case "answer_start":
                return self._begin({self._chat.answer_start.strip(): "content_start"}, "content_start", end)
            case "thought":
                return self._think(pieces, end)
            case "content_start":
                marks = {self._chat.open_mark: "thought_start"} if self._reopening else {}
                return self._begin(marks, "content", end)
            case "content":
                return self._answer(pieces, end)
            case "thought_start":
                return self._begin({}, "thought", end)

    def _begin(self, marks: dict[str, _State], unmarked: _State, end: _End) -> bool:
        """Go on behind the mark that the text begins with, or without one."""
        body = self._held.lstrip()
        for mark, state in marks.items():
            if mark and body.startswith(mark):
                self._held, self._state = body.removeprefix(mark), state
                return True
        if not body or any(mark.startswith(body) for mark in marks):
            if end is None:
                return False
            if end == "truncated":
                body = ""
        self._held, self._state = body, unmarked
        return True

    def _think(self, pieces: list[Piece], end: _End) -> bool:
        mark = self._chat.close_mark
        thought, closing, rest = self._held.partition(mark)
        if closing:
            pieces.append(("reasoning", thought.rstrip()))
            self._held, self._state = rest, "answer_start"
            return True
        certain = self._held.rstrip() if end == "complete" else _before_part_of(self._held, [mark])
        pieces.append(("reasoning", certain))
        self._held = "" if end else self._held[len(certain) :]
        return False

    def _answer(self, pieces: list[Piece], end: _End) -> bool:
        reopened = self._reopening.search(self._held) if self._reopening else None
        if reopened:
            self._add_answer(pieces, self._without_end(self._held[: reopened.start()]))
            self._held, self._state, self._gap = self._held[reopened.end() :], "thought_start", "\n\n"
            return True
        certain = self._without_end(self._held)
        if end != "complete" and certain == self._held.rstrip():
            marks = (self._chat.answer_end.strip(), self._chat.open_mark if self._reopening else "")
            certain = _before_part_of(self._held, marks)
        self._add_answer(pieces, certain)
        self._held = "" if end else self._held[len(certain) :]
        return False

    def _without_end(self, text: str) -> str:
        return text.rstrip().removesuffix(self._chat.answer_end.strip()).rstrip()

    def _add_answer(self, pieces: list[Piece], text: str) -> None:
        if text:
            pieces.append(("content", self._gap + text))
            self._gap = ""


def part_at_end(text: str, marks: Iterable[str]) -> int:
    """Length of the longest end of the text that one of the marks begins with, short of a whole mark."""
    return max((_overlap(text, mark) for mark in marks), default=0)


def _overlap(text: str, mark: str) -> int:
    sizes = range(min(len(mark) - 1, len(text)), 0, -1)
    return next((size for size in sizes if mark.startswith(text[-size:])), 0)


def _before_part_of(text: str, marks: Iterable[str]) -> str:
    """The text without the part of a mark at its end, and without the white space before that."""
    return text[: len(text) - part_at_end(text, marks)].rstrip()
