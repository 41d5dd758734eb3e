"""A small linear-time sentence splitter for text of a policy that may try to game it, in any script.

A sentence ends at a character with Unicode's property Sentence_Terminal. Thai, Lao, Khmer and Tibetan mark no ends, or
few: there a sentence is a measure, and ends at the first space after UNMARKED_LETTERS letters.
"""

import re

from rapo_ray.text.scripts import CLEAR_TERMINAL, MARKS, UNMARKED, UNSPACED

MAX_CHARS = 20_000  # text beyond this is ignored, so that a runaway completion cannot stall a judge
MIN_WORDS = 3
MIN_CJK = 6
MIN_UNSPACED = 12  # letters of other scripts without spaces between words, which spell a word with more of them
UNMARKED_LETTERS = 60  # with the rest of its phrase a sentence comes to about 71, the mean of STAR-1's English traces

_IN_WORD = rf"(?:[^\W_]|[{MARKS}])"
WORD = re.compile(rf"[^\W_]{_IN_WORD}*(?:['’\u200c\u200d]{_IN_WORD}+)*")
CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3\uff66-\uff9f]")

_CLOSERS = "\"'”’»)\\]}」』）〉》】"
# The look-behind keeps a long run of terminators from being scanned again from each of its characters.
_TERMINATOR = re.compile(
    rf"(?<![.!?…])(?P<mark>[.!?…]+)(?P<close>(?:[{_CLOSERS}*_]|[ \u00a0\u202f](?=»))*)(?=\s|$)|"
    rf"(?<![{CLEAR_TERMINAL}])(?!．\d)[{CLEAR_TERMINAL}][{CLEAR_TERMINAL}!?]*[{_CLOSERS}]*|"
    r"(?<=[\u0370-\u03ff\u1f00-\u1fff])[;\u037e](?=\s|$)"  # the question mark of Greek
)
_ITEM = r"[ \t]*(?:[-*•][ \t]|\d{1,3}[.)][ \t])"
_LINE_BREAK = re.compile(rf"\n(?=[^\S\n]*\n|{_ITEM})")
_LAST_TOKEN = re.compile(r"[^\s(\"'“‘\[]*\Z")
_LIST_NUMBER = re.compile(r"\s*\d{1,3}\Z")
_LETTERS_AND_DOTS = re.compile(r"(?:[^\W\d_]\.)+[^\W\d_]{1,2}\Z")
_ABBREVIATION = re.compile(
    r"approx|cf|co|corp|dept|dr|eq|est|fig|gen|gov|inc|jr|lt|ltd|mr|mrs|ms|mt|no|prof|rev|sgt|sr|st|vol|vs|"
    r"bzw|dhr|dott|dra|mevr|mlle|mme|np|sig|sra|srta|tzn"
)
_PAIRED = re.compile(r"(?:^|\s)[^\W\d_A-Z](?:\. ?[^\W\d_]{1,2})?\Z")  # up to either dot of "z. B." or "p. ej."
_SECOND = re.compile(r"\. ?[^\W\d_]{1,2}\.")
_MAY_END = re.compile(r"approx|co|corp|dept|est|etc|inc|jr|ltd|no")
_UNMARKED = re.compile(f"[{UNMARKED}]")
_PHRASE = re.compile(r"\S+(?=\s)")
_TOKEN_REACH = 24  # characters looked back over for an abbreviation


def split_sentences(text: str) -> list[str]:
    """The sentences of the text in order, fragments and repeats included."""
    sentences: list[str] = []
    for line in _LINE_BREAK.split(text[:MAX_CHARS]):
        start = 0
        for match in _TERMINATOR.finditer(line):
            if _ends_sentence(line, start, match):
                sentences.append(line[start : match.end()])
                start = match.end()
        sentences.append(line[start:])
    sentences = [part for sentence in sentences for part in _measured(sentence)]
    return [cleaned for sentence in sentences if (cleaned := " ".join(sentence.split()))]


def count_sentences(text: str) -> int:
    """Number of distinct sentences of the text that have enough words to count."""
    return len({normalise(sentence) for sentence in split_sentences(text) if is_whole(sentence)})


def is_whole(sentence: str) -> bool:
    """True where a piece has three different words or six CJK characters, so that `Stop. Stop.` does not count.

    Of other scripts without spaces it takes twelve characters.
    """
    return (
        len(set(words(sentence))) >= MIN_WORDS
        or len(CJK.findall(sentence)) >= MIN_CJK
        or (len(UNSPACED.findall(sentence)) >= MIN_UNSPACED)
    )


def normalise(sentence: str) -> str:
    """The sentence without case, spacing and punctuation, for comparison with others."""
    return " ".join(words(sentence))


def words(text: str) -> list[str]:
    """The case-folded words of the text."""
    return [word.casefold().replace("’", "'") for word in WORD.findall(text)]


def _measured(sentence: str) -> list[str]:
    """The sentence, cut by measure as far as its script marks no ends."""
    if not _UNMARKED.search(sentence):
        return [sentence]
    pieces, start, letters = [], 0, 0
    for match in _PHRASE.finditer(sentence):
        letters += len(_UNMARKED.findall(match.group()))
        if letters >= UNMARKED_LETTERS:
            pieces.append(sentence[start : match.end()])
            start, letters = match.end(), 0
    return [*pieces, sentence[start:]]


def _ends_sentence(line: str, start: int, match: re.Match[str]) -> bool:
    mark = match["mark"]
    if mark is None:  # unlike a dot, none of these stands inside a word or a number
        return True
    following = line[match.end() : match.end() + 8].lstrip()[:1]
    if not following:
        return True
    if following.title() != following and not following.isascii():  # "и т. д. и т. п."; Georgian has no capitals
        return False
    if mark == ".":
        reach = max(start, match.start() - _TOKEN_REACH)
        before = line[reach : match.start()]
        if (pair := _PAIRED.search(before)) and ("." in pair.group() or _SECOND.match(line, match.start())):
            return False
        return not _is_abbreviation(before, following)
    if "…" in mark or mark.startswith(".."):
        return not following.islower()
    return not (match["close"] and following.islower())  # "Stop!" he said.


def _is_abbreviation(before: str, following: str) -> bool:
    if _LIST_NUMBER.match(before):
        return True
    match = _LAST_TOKEN.search(before)
    token = match.group() if match else ""
    if len(token) == 1 and token.isalpha() and token != "I":
        return token.isupper() and following.isupper()
    if _LETTERS_AND_DOTS.match(token):
        return token.casefold() in {"e.g", "i.e", "z.b", "d.h", "u.a"} or not following.isupper()
    if _MAY_END.fullmatch(token.casefold()):
        return not following.isupper()
    return bool(_ABBREVIATION.fullmatch(token.casefold()))
