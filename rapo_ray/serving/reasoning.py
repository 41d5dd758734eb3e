"""Separation of thinking and answer in a streamed completion, by its text, which works for any model (pure)."""

from collections.abc import Iterable
from typing import Literal

from rapo_ray.models.chat import ChatFormat

Piece = tuple[Literal["reasoning", "content"], str]
Beginning = Literal["opened", "closed", "none"]
"""The thinking at the end of a rendered prompt: begun, over, or left to the model to open."""
_End = Literal["truncated", "complete"] | None
_State = Literal["start", "thought_start", "thought", "answer_start", "answer"]
CHUNK = 4096  # characters in a step: far more than a mark has


class ThinkSplitter:
    """Splitter of a completion that arrives in pieces; text that could still become a mark is held back."""

    def __init__(
        self, chat: ChatFormat, beginning: Beginning, strict: bool = False, tokens: tuple[str, ...] = ()
    ) -> None:
        """Split by a format's marks, of which `tokens` are special tokens; white space around the parts stays.

        `strict` takes no text for the answer that may be a thought: thinking goes on to a closing mark with the line
        ends that the format shows around it, and an opening mark or special token in an answer begins it again.
        """
        self._chat = chat
        self._closing = _with_line_ends(chat.closing) if strict else chat.close_mark
        self._wrap_end = chat.answer_end.strip()
        self._reopening = (chat.open_mark, *tokens) if strict else ()
        thinks = beginning == "opened" or (strict and beginning == "none")
        self._unmarked: _State = "thought_start" if thinks else "answer_start"
        self._state: _State = "start"
        self._held = ""

    def feed(self, text: str) -> list[Piece]:
        """Add text and return the pieces that are now certain."""
        pieces: list[Piece] = []
        for start in range(0, len(text), CHUNK):
            self._held += text[start : start + CHUNK]
            pieces += self._advance(None)
            self._held = shortened(self._held)
        return pieces

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
            case "thought_start":
                return self._begin({self._closing.lstrip(): "answer_start"}, "thought", end)
            case "thought":
                return self._think(pieces, end)
            case "answer_start":
                return self._begin({self._chat.answer_start.strip(): "answer"}, "answer", end)
            case "answer":
                return self._answer(pieces, end)

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
                self._held = ""
        self._state = unmarked
        return True

    def _think(self, pieces: list[Piece], end: _End) -> bool:
        thought, closing, rest = self._held.partition(self._closing)
        if closing:
            pieces.append(("reasoning", thought))
            self._held, self._state = rest, "answer_start"
            return True
        certain = self._held if end == "complete" else _before_part_of(self._held, [self._closing])
        pieces.append(("reasoning", certain))
        self._held = "" if end else self._held[len(certain) :]
        return False

    def _answer(self, pieces: list[Piece], end: _End) -> bool:
        marks = [at for mark in self._reopening if (at := self._held.find(mark)) >= 0]
        if marks:
            pieces.append(("content", self._unwrapped(self._held[: min(marks)])))
            self._held = self._held[min(marks) :].removeprefix(self._wrap_end)
            self._state, self._unmarked = "start", "thought_start"
            return True
        text = self._held if end == "complete" else _before_part_of(self._held, (self._wrap_end, *self._reopening))
        certain = self._unwrapped(text)
        pieces.append(("content", certain))
        self._held = "" if end else self._held[len(certain) :]
        return False

    def _unwrapped(self, text: str) -> str:
        body = text.rstrip()
        return body.removesuffix(self._wrap_end) if self._wrap_end and body.endswith(self._wrap_end) else text


def shortened(text: str) -> str:
    """Text that is held back, which is white space but for its ends, without the middle of a very long run."""
    return text if len(text) <= 2 * CHUNK else text[:CHUNK] + text[-CHUNK:]


def part_at_end(text: str, marks: Iterable[str]) -> int:
    """Length of the longest end of the text that one of the marks begins with, short of a whole mark."""
    return max((_overlap(text, mark) for mark in marks), default=0)


def _overlap(text: str, mark: str) -> int:
    sizes = range(min(len(mark) - 1, len(text)), 0, -1)
    return next((size for size in sizes if mark.startswith(text[-size:])), 0)


def _before_part_of(text: str, marks: Iterable[str]) -> str:
    return text[: len(text) - part_at_end(text, marks)]


def _with_line_ends(closing: str) -> str:
    """The closing mark, with the line end before and the one behind it that the format shows."""
    before, behind = "\n" if closing.startswith("\n") else "", "\n" if closing.endswith("\n") else ""
    return before + closing.strip() + behind
