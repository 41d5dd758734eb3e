"""The commands of README.md and the guides, as the tests read them."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
SHELLS = frozenset(("sh", "bash", "console"))
LANGUAGES = SHELLS | {"text", "python", "yaml", "json"}
# Reasons for which a block is not run: it needs a GPU, a cluster, a running endpoint (or another server), a key or an
# account, the internet, or minutes.
REASONS = frozenset(("gpu", "cluster", "endpoint", "secret", "network", "minutes"))

FENCE = re.compile(r"^ *```(.*)$")
NEEDS = re.compile(r"<!-- needs: (.*) -->")
HEREDOC = re.compile(r"<<-?'?(\w+)'?")


@dataclass(frozen=True)
class Block:
    """A fenced block: its page, the line of its fence, its language, the reason that it is not run, and its text."""

    page: Path
    line: int
    language: str
    needs: str | None
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page; raises ValueError for a reason that no block of commands follows."""
    lines = page.read_text("utf-8").splitlines()
    start = None
    for number, line in enumerate(lines):
        fence = FENCE.match(line)
        if fence and start is None:
            start = number
        elif fence and start is not None:
            reason = NEEDS.fullmatch(lines[start - 1])
            language = lines[start].strip().removeprefix("```")
            text = "\n".join(lines[start + 1 : number]) + "\n"
            yield Block(page, start + 1, language, reason and reason[1], text)
            start = None
        elif start is None and line.startswith("<!--"):
            following = FENCE.match(lines[number + 1])
            if not NEEDS.fullmatch(line) or not following or following[1] not in SHELLS:
                raise ValueError(f"{page}:{number + 1}: {line} stands before no block of commands")


def commands(text: str) -> Iterator[list[str]]:
    """The simple commands of a script as words, without comments, here-documents and variables set before them."""
    lines = iter(text.replace("\\\n", " ").splitlines())
    for line in lines:
        end = HEREDOC.search(line)
        if end:
            while next(lines) != end[1]:
                pass
        command: list[str] = []
        for word in [*shlex.split(line, comments=True), "&&"]:
            if word == "&&":
                if command:
                    yield command
                command = []
            elif command or not re.match(r"^[A-Z_]+=", word):
                command.append(word)


def spans(page: Path) -> Iterator[str]:
    """The code spans in a page's prose and tables, each on one line."""
    prose = "".join(re.split(r"^ *```[^`]*?^ *```$", page.read_text("utf-8"), flags=re.MULTILINE))
    yield from (" ".join(span.split()) for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", prose))
