"""The contamination guard: it finds training prompts that occur in an evaluation suite, near-duplicates too (pure).

There are four kinds of match, from strict to loose: the same text, the same words, a run of 13 shared words (as in
Brown et al., arXiv 2005.14165, appendix C), and word sets with a Jaccard index of at least 0.8, for short prompts.

Chinese, Japanese, Thai and other scripts without spaces have characters with their accents in the place of words, and
runs of about twice as many, which say as much.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from rapo_ray.text.scripts import CLUSTERS, MARKS, UNSPACED
from rapo_ray.types import Prompt

NGRAM = 13
SIMILAR = 0.8
MIN_CONTAINED = 6  # words of a suite prompt contained in a longer training prompt; shorter ones match by chance
NGRAM_UNSPACED, MIN_CONTAINED_UNSPACED = 24, 10  # the same of prompts in scripts without spaces

# Arabic's stretched line, and the vowels of Arabic and Hebrew, which most writers leave out.
_OPTIONAL = re.compile("[\u0640\u064b-\u065f\u0670\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7]")
_WORD = re.compile(rf"[^\W_](?:[^\W_]|[{MARKS}])*")


class Match(StrEnum):
    """Kind of match between a training prompt and a suite prompt."""

    EXACT = "exact"
    NORMALISED = "normalised"
    CONTAINED = "contained"  # 13 words in a row, or a whole suite prompt that is shorter
    SIMILAR = "similar"


STRICTEST = tuple(Match)


@dataclass(frozen=True, slots=True)
class Hit:
    """A training prompt and the suite prompt that it matches."""

    prompt: Prompt
    suite: Prompt
    match: Match


def texts_of(prompt: Prompt) -> list[str]:
    """The texts that a prompt is compared by: its own or, of a dialogue, all that the user wrote, and each turn of it.

    A turn of few words, such as a greeting or "Go on.", is no evidence by itself.
    """
    if not prompt.turns:
        return [prompt.text]
    turns = [*(turn.content for turn in prompt.turns if turn.role == "user"), prompt.text]
    return [prompt.user_text, *(text for text in turns if _is_telling(words_of(text)))]


def words_of(text: str) -> tuple[str, ...]:
    """Case-folded words without punctuation, after resolving compatibility forms and invisible characters.

    A script without spaces gives its characters, each with its accents.
    """
    plain = unicodedata.normalize("NFKC", text).casefold()
    if plain.isascii():
        return tuple(re.findall(r"[^\W_]+", plain))
    plain = "".join(character for character in plain if unicodedata.category(character) != "Cf")
    plain = _OPTIONAL.sub("", plain)
    words = _WORD.findall(plain)
    if not UNSPACED.search(plain):
        return tuple(words)
    return tuple(part for word in words for part in CLUSTERS.findall(word))


class Guard:
    """An index of evaluation prompts."""

    def __init__(self, suites: Iterable[Prompt]) -> None:
        entries = [(text, prompt) for prompt in suites for text in texts_of(prompt)]
        self._suites = [prompt for _, prompt in entries]
        words = [words_of(text) for text, _ in entries]
        self._exact = {text.strip(): prompt for text, prompt in reversed(entries)}
        self._words = dict(zip(reversed(words), reversed(self._suites), strict=True))
        self._runs: dict[tuple[str, ...], Prompt] = {}
        self._lengths: set[int] = set()
        self._by_word: dict[str, list[int]] = {}
        self._sets = [frozenset(each) for each in words]
        for index, prompt in enumerate(self._suites):
            ngram, least = _run_lengths(words[index])
            length = min(ngram, len(words[index]))
            if length >= least:
                self._lengths.add(length)
                for run in _runs(words[index], length):
                    self._runs.setdefault(run, prompt)
            for word in self._sets[index]:
                self._by_word.setdefault(word, []).append(index)

    def find(self, prompt: Prompt) -> Hit | None:
        """The first suite prompt that `prompt` matches, with the strictest kind of match, or None."""
        hits = [hit for text in texts_of(prompt) if (hit := self._match(text)) is not None]
        if not hits:
            return None
        match, suite = min(hits, key=lambda hit: STRICTEST.index(hit[0]))
        return Hit(prompt, suite, match)

    def split(self, prompts: Sequence[Prompt]) -> tuple[list[Prompt], list[Hit]]:
        """The prompts without a match, in order, and the hits of the others."""
        hits = {index: hit for index, prompt in enumerate(prompts) if (hit := self.find(prompt)) is not None}
        return [prompt for index, prompt in enumerate(prompts) if index not in hits], list(hits.values())

    def _match(self, text: str) -> tuple[Match, Prompt] | None:
        words = words_of(text)
        for match, suite in (
            (Match.EXACT, self._exact.get(text.strip())),
            (Match.NORMALISED, self._words.get(words)),
            (Match.CONTAINED, self._contained(words)),
            (Match.SIMILAR, self._similar(frozenset(words))),
        ):
            if suite is not None:
                return match, suite
        return None

    def _contained(self, words: tuple[str, ...]) -> Prompt | None:
        runs = (run for length in sorted(self._lengths) for run in _runs(words, length))
        return next((self._runs[run] for run in runs if run in self._runs), None)

    def _similar(self, words: frozenset[str]) -> Prompt | None:
        shared = Counter(index for word in words for index in self._by_word.get(word, ()))
        best, index = max(
            ((count / len(words | self._sets[index]), -index) for index, count in shared.items()), default=(0.0, 0)
        )
        return self._suites[-index] if best >= SIMILAR else None


def _run_lengths(words: tuple[str, ...]) -> tuple[int, int]:
    """Words of a run, and the fewest that a whole prompt is searched for by."""
    unspaced = sum(bool(UNSPACED.match(word)) for word in words if not word.isascii())
    return (NGRAM_UNSPACED, MIN_CONTAINED_UNSPACED) if 2 * unspaced > len(words) else (NGRAM, MIN_CONTAINED)


def _is_telling(words: tuple[str, ...]) -> bool:
    return len(words) >= _run_lengths(words)[1]


def _runs(words: tuple[str, ...], length: int) -> Iterator[tuple[str, ...]]:
    return (words[start : start + length] for start in range(len(words) - length + 1))
