"""Cuts in the text of a completion that arrives in pieces: stop strings, special tokens, white space (pure)."""

import re
from collections.abc import Iterable

from rapo_ray.serving.reasoning import part_at_end, shortened

SEPARATOR = "\x1c"  # it counts as white space, and no text needs it


class StopCutter:
    """Cutter of an answer at the stop string that is complete first; text that may become one is held back.

    The white space in front of an answer belongs to its format, so a stop string of white space alone does not match
    in it.
    """

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._held = ""
        self._blanks = 0  # of those in front of the answer, the ones at the start of the held text
        self._begun = False
        self.stopped = False

    def feed(self, text: str) -> str:
        """Add text and return what is now certain to stand in front of every stop string."""
        if self.stopped:
            return ""
        self._held += text
        if not self._begun:
            self._blanks = len(self._held) - len(self._held.lstrip())
            self._begun = self._blanks < len(self._held)
        matches = [(at + len(stop), at) for stop in self._stops if (at := self._find(stop)) >= 0]
        if matches:
            self.stopped = True
            return self._take(min(matches)[1])
        return self._take(len(self._held) - part_at_end(self._held, self._stops))

    def finish(self) -> str:
        """The remaining text, once the completion has ended."""
        return "" if self.stopped else self._take(len(self._held))

    def _find(self, stop: str) -> int:
        return self._held.find(stop, self._blanks if stop.isspace() else 0)

    def _take(self, size: int) -> str:
        text, self._held = self._held[:size], self._held[size:]
        self._blanks = max(0, self._blanks - size)
        return text


class Trimmer:
    """Trimmer of the white space at both ends of a text."""

    def __init__(self) -> None:
        self._begun = False
        self._held = ""  # white space that the text may end with

    def feed(self, text: str) -> str:
        """Add text and return what is certain."""
        text = self._held + (text if self._begun else text.lstrip())
        size = len(text.rstrip())
        self._begun = self._begun or size > 0
        self._held = shortened(text[size:])
        return text[:size]


class Strays:
    """Special tokens that an engine writes out when it has to keep those of the marks."""

    def __init__(self, tokens: Iterable[str] = ()) -> None:
        self.tokens = tuple(sorted(tokens, key=len, reverse=True))
        self.pattern = re.compile("|".join(re.escape(token) for token in self.tokens) or r"(?!)")
        self._longest = max(map(len, self.tokens), default=0)
        self._parts = frozenset(token[:size] for token in self.tokens for size in range(1, len(token)))

    def part_at_end(self, text: str) -> int:
        """Length of the longest end of the text that one of the tokens begins with, short of a whole token."""
        sizes = range(min(self._longest - 1, len(text)), 0, -1)
        return next((size for size in sizes if text[-size:] in self._parts), 0)


NO_STRAYS = Strays()


class TokenStripper:
    """Stripper that puts a separator in the place of a stray token, as what is around it may make a mark."""

    def __init__(self, strays: Strays) -> None:
        self._strays = strays
        self._held = ""

    def feed(self, text: str, last: bool) -> str:
        """Add text, or the last of it, and return what is certain."""
        text = self._strays.pattern.sub(SEPARATOR, self._held + text)
        size = len(text) if last else len(text) - self._strays.part_at_end(text)
        self._held = text[size:]
        return text[:size]
