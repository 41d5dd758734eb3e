"""The contamination guard: it finds training prompts that occur in an evaluation suite, near-duplicates too (pure).

There are four kinds of match, from strict to loose: the same text, the same words, a run of 13 shared words (as in
Brown et al., arXiv 2005.14165, appendix C), and word sets with a Jaccard index of at least 0.8, for short prompts.
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
MIN_CONTAINED = 6  # words of a suite prompt contained in a longer training prompt; shorter ones match by chance


class Match(StrEnum):
    """Kind of match between a training prompt and a suite prompt."""

    EXACT = "exact"
    NORMALISED = "normalised"
    CONTAINED = "contained"  # 13 words in a row, or a whole suite prompt that is shorter
    SIMILAR = "similar"


@dataclass(frozen=True, slots=True)
class Hit:
    """A training prompt and the suite prompt that it matches."""

    prompt: Prompt
    suite: Prompt
    match: Match


@dataclass(frozen=True, slots=True)
class _Entry:
    prompt: Prompt
    words: tuple[str, ...]


def words_of(text: str) -> tuple[str, ...]:
    """Case-folded words without punctuation, after resolving compatibility forms and invisible characters."""
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
        """The first suite prompt that `prompt` matches, with the strictest kind of match, or None."""
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
        """The prompts without a match, in order, and the hits of the others."""
        hits = {index: hit for index, prompt in enumerate(prompts) if (hit := self.find(prompt)) is not None}
        return [prompt for index, prompt in enumerate(prompts) if index not in hits], list(hits.values())

    def _contained(self, words: tuple[str, ...]) -> _Entry | None:
        entries = (self._runs.get(run) for length in sorted(self._lengths) for run in _runs(words, length))
        return next((entry for entry in entries if entry is not None), None)

    def _similar(self, words: frozenset[str]) -> _Entry | None:
        shared = Counter(index for word in words for index in self._by_word.get(word, ()))
        best, index = max(
            ((count / len(words | self._sets[index]), -index) for index, count in shared.items()), default=(0.0, 0)
        )
        return self._entries[-index] if best >= SIMILAR else None


def _runs(words: tuple[str, ...], length: int) -> Iterator[tuple[str, ...]]:
    return (words[start : start + length] for start in range(len(words) - length + 1))
