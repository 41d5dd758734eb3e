"""Separation of thinking and answer in a streamed completion, by its text, which works for any model (pure)."""

from typing import Literal

from rapo_ray.models.chat import THINK_END, THINK_START

Piece = tuple[Literal["reasoning", "content"], str]


class ThinkSplitter:
    """Splitter of a completion that arrives in pieces; text that could still become a mark is held back."""

    def __init__(self) -> None:
        self._held = ""
        self._state: Literal["start", "thought_start", "reasoning", "answer_start", "content"] = "start"
        self.reasoning_chars = 0

    def feed(self, text: str) -> list[Piece]:
        """Add text and return the pieces that are now certain."""
        self._held += text
        return self._advance(final=False)

    def finish(self) -> list[Piece]:
        """The remaining pieces, once the completion has ended."""
        return self._advance(final=True)

    def _advance(self, final: bool) -> list[Piece]:
        pieces: list[Piece] = []
        while self._step(pieces, final):
            pass
        self.reasoning_chars += sum(len(text) for kind, text in pieces if kind == "reasoning")
        return pieces

    def _step(self, pieces: list[Piece], final: bool) -> bool:
        """Take one step of the state machine; False where it needs more text."""
        if self._state == "start":
            return self._opens_thinking(final)
        if self._state == "reasoning":
            return self._think(pieces, final)
        if self._state in ("thought_start", "answer_start"):
            self._held = self._held.lstrip()
            if self._held:
                self._state = "reasoning" if self._state == "thought_start" else "content"
            return bool(self._held)
        if self._held:
            pieces.append(("content", self._held))
            self._held = ""
        return False

    def _opens_thinking(self, final: bool) -> bool:
        """Decide whether the completion opens with the mark; otherwise all of it is the answer."""
        body = self._held.lstrip()
        if body.startswith(THINK_START):
            self._held = body[len(THINK_START) :]
            self._state = "thought_start"
            return True
        if not final and THINK_START.startswith(body):
            return False
        self._state = "content"
        return True

    def _think(self, pieces: list[Piece], final: bool) -> bool:
        thought, mark, rest = self._held.partition(THINK_END)
        if mark:
            self._add_reasoning(pieces, thought.rstrip())
            self._held = rest
            self._state = "answer_start"
            return True
        certain = len(self._held) - (0 if final else _uncertain(self._held))
        self._add_reasoning(pieces, self._held[:certain])
        self._held = self._held[certain:]
        return False

    @staticmethod
    def _add_reasoning(pieces: list[Piece], text: str) -> None:
        if text:
            pieces.append(("reasoning", text))


def _uncertain(text: str) -> int:
    """Number of characters at the end that may belong to the closing mark or the white space before it."""
    cut = len(text)
    for size in range(min(len(THINK_END) - 1, len(text)), 0, -1):
        if THINK_END.startswith(text[-size:]):
            cut = len(text) - size
            break
    return len(text) - len(text[:cut].rstrip())


def split_whole(text: str) -> tuple[str, str]:
    """Thinking and answer of a whole completion."""
    splitter = ThinkSplitter()
    pieces = splitter.feed(text) + splitter.finish()
    joined = {kind: "".join(part for one, part in pieces if one == kind) for kind in ("reasoning", "content")}
    return joined["reasoning"], joined["content"]
