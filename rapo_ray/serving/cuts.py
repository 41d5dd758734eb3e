"""Cuts in the text of a completion that arrives in pieces: stop strings and special tokens (pure)."""

import re

from rapo_ray.serving.reasoning import part_at_end


class StopCutter:
    """Cutter of an answer at the stop string that is complete first; text that may become one is held back."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._held = ""
        self.stopped = False

    def feed(self, text: str) -> str:
        """Add text and return what is now certain to stand in front of every stop string."""
        if self.stopped:
            return ""
        self._held += text
        matches = [(at + len(stop), at) for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if matches:
            self.stopped = True
            return self._take(min(matches)[1])
        return self._take(len(self._held) - part_at_end(self._held, self._stops))

    def finish(self) -> str:
        """The remaining text, once the completion has ended."""
        return "" if self.stopped else self._take(len(self._held))

    def _take(self, size: int) -> str:
        text, self._held = self._held[:size], self._held[size:]
        return text


class TokenStripper:
    """Stripper of special tokens that an engine writes out when it has to keep those of the marks."""

    def __init__(self, tokens: tuple[str, ...]) -> None:
        self._tokens = tokens
        self._pattern = re.compile("|".join(re.escape(token) for token in tokens) or r"(?!)")
        self._held = ""

    def feed(self, text: str) -> str:
        """Add text and return what is certain, without the tokens."""
        *parts, rest = self._pattern.split(self._held + text)
        certain = len(rest) - part_at_end(rest, self._tokens)
        self._held = rest[certain:]
        return "".join(parts) + rest[:certain]

    def finish(self) -> str:
        """The remaining text, once the completion has ended."""
        text, self._held = self._held, ""
        return text
