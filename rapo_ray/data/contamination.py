"""The contamination guard: training prompts that an evaluation suite holds are refused, near-duplicates too (pure).

Four ways to match, the strictest named first: the same text, the same words, a run of 13 shared words (as Brown et al.,
arXiv 2005.14165, appendix C), or as word sets a Jaccard index of at least 0.8, which catches short prompts.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from rapo_ray.types import Prompt

NGRAM = 13
SIMILAR = 0.8
MIN_CONTAINED = 6  # words of a whole suite prompt inside a longer training prompt; fewer say nothing


class Match(StrEnum):
    """How a training prompt was found in a suite."""

    EXACT = "exact"
    NORMALISED = "normalised"
    CONTAINED = "contained"  # 13 words in a row, or the whole of a shorter suite prompt
    SIMILAR = "similar"


@dataclass(frozen=True, slots=True)
class Hit:
    """A training prompt and the suite prompt that it repeats."""

    prompt: Prompt
    suite: Prompt
    match: Match


@dataclass(frozen=True, slots=True)
class _Entry:
    prompt: Prompt
    words: tuple[str, ...]


def words_of(text: str) -> tuple[str, ...]:
    """Case-folded words without punctuation, compatibility forms and invisible characters resolved."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    plain = "".join(character for character in plain if unicodedata.category(character) != "Cf")
    return tuple(re.findall(r"[^\W_]+", plain))


class Guard:
    """An index of evaluation prompts."""

    def __init__(self, suites: Iterable[Prompt]) -> None:
        entries = [_Entry(prompt, words_of(prompt.text)) for prompt in suites]
        self._exact = {entry.prompt.text.strip(): entry for entry in reversed(entries)}
        self._words = {entry.words: entry for entry in reversed(entries)}
        self._runs: dict[tuple[str, ...], _Entry] = {}
        self._lengths: set[int] = set()
        self._by_word: dict[str, list[int]] = {}
        self._sets = [frozenset(entry.words) for entry in entries]
        self._entries = entries
        for index, entry in enumerate(entries):
            length = min(NGRAM, len(entry.words))
            if length >= MIN_CONTAINED:
                self._lengths.add(length)
                for run in _runs(entry.words, length):
                    self._runs.setdefault(run, entry)
            for word in self._sets[index]:
                self._by_word.setdefault(word, []).append(index)

    def find(self, prompt: Prompt) -> Hit | None:
        """The first suite prompt that `prompt` repeats, by the strictest way that matches, or None."""
        words = words_of(prompt.text)
        for match, entry in (
            (Match.EXACT, self._exact.get(prompt.text.strip())),
            (Match.NORMALISED, self._words.get(words)),
            (Match.CONTAINED, self._contained(words)),
            (Match.SIMILAR, self._similar(frozenset(words))),
        ):
            if entry is not None:
                return Hit(prompt, entry.prompt, match)
        return None

    def split(self, prompts: Sequence[Prompt]) -> tuple[list[Prompt], list[Hit]]:
        """The prompts that no suite holds, in order, and the hits of the others."""
        hits = {index: hit for index, prompt in enumerate(prompts) if (hit := self.find(prompt)) is not None}
        return [prompt for index, prompt in enumerate(prompts) if index not in hits], list(hits.values())

    def _contained(self, words: tuple[str, ...]) -> _Entry | None:
        found = (self._runs.get(run) for length in sorted(self._lengths) for run in _runs(words, length))
        return next((entry for entry in found if entry is not None), None)

    def _similar(self, words: frozenset[str]) -> _Entry | None:
        shared = Counter(index for word in words for index in self._by_word.get(word, ()))
        best, index = max(
            ((count / len(words | self._sets[index]), -index) for index, count in shared.items()), default=(0.0, 0)
        )
        return self._entries[-index] if best >= SIMILAR else None


def report_rows(hits: Sequence[Hit]) -> list[dict[str, str]]:
    """One row a hit, for the run's `contamination.jsonl`."""
    return [
        {
            "prompt_id": hit.prompt.id,
            "source": hit.prompt.source,
            "suite_id": hit.suite.id,
            "suite": hit.suite.source,
            "match": hit.match.value,
            "prompt": hit.prompt.text,
            "suite_prompt": hit.suite.text,
        }
        for hit in hits
    ]


def _runs(words: tuple[str, ...], length: int) -> Iterator[tuple[str, ...]]:
    return (words[start : start + length] for start in range(len(words) - length + 1))
