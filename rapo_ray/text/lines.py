"""Lines of text and of streams: a line ends at \\n, \\r\\n or \\r, as in server-sent events, and at nothing else.

str.splitlines also cuts at U+2028, U+0085 and others, which JSON strings hold as they are.
"""

import codecs
import re

_LINE_END = re.compile(r"\r\n|\n|\r")


def split_lines(text: str) -> list[str]:
    """The lines of a text without their ends; what follows the last end is a line unless it is empty."""
    lines = _LINE_END.split(text)
    return lines if lines[-1] else lines[:-1]


def whole_lines(text: str) -> list[str]:
    """The lines of a text that a newline ends: without one that is torn, or still being written."""
    return split_lines(text[: text.rfind("\n") + 1])


class LineReader:
    """Lines of a stream that arrives in pieces of text or UTF-8, each line as soon as its end begins.

    A piece may end anywhere, between \\r and \\n and inside a character too; bytes that are no UTF-8 become U+FFFD.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._line: list[str] = []
        self._returned = False  # the last piece ended in \r, so a \n now is part of that end

    def feed(self, piece: str | bytes) -> list[str]:
        """The lines that end in this piece."""
        text = self._decoder.decode(piece) if isinstance(piece, bytes) else piece
        if not text:
            return []
        if self._returned:
            text = text.removeprefix("\n")
        self._returned = text.endswith("\r")
        first, *others = _LINE_END.split(text)
        self._line.append(first)
        if not others:
            return []
        lines = ["".join(self._line), *others]
        self._line = [lines.pop()]
        return lines

    def finish(self) -> list[str]:
        """The last line, where no end followed it."""
        line = "".join(self._line) + self._decoder.decode(b"", final=True)
        self._line = []
        return [line] if line else []
