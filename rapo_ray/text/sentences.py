"""A small linear-time sentence splitter for text of a policy that may try to game it."""

import re

MAX_CHARS = 20_000  # text beyond this is ignored, so that a runaway completion cannot stall a judge
MIN_WORDS = 3
MIN_CJK = 6

WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3]")

_CLOSERS = "\"'”’»)\\]}」』）"
# The look-behind keeps a long run of terminators from being scanned again from each of its characters.
_TERMINATOR = re.compile(
    rf"(?<![.!?…])(?P<mark>[.!?…]+)(?P<close>[{_CLOSERS}*_]*)(?=\s|$)|(?<![。！？])[。！？]+[{_CLOSERS}]*"
)
_ITEM = r"[ \t]*(?:[-*•][ \t]|\d{1,3}[.)][ \t])"
_LINE_BREAK = re.compile(rf"\n(?=[^\S\n]*\n|{_ITEM})")
_LAST_TOKEN = re.compile(r"[^\s(\"'“‘\[]*\Z")
_LIST_NUMBER = re.compile(r"\s*\d{1,3}\Z")
_LETTERS_AND_DOTS = re.compile(r"(?:[^\W\d_]\.)+[^\W\d_]\Z")
_ABBREVIATION = re.compile(
    r"approx|cf|co|corp|dept|dr|eq|est|fig|gen|gov|inc|jr|lt|ltd|mr|mrs|ms|mt|no|prof|rev|sgt|sr|st|vol|vs"
)
_MAY_END = re.compile(r"approx|co|corp|dept|est|etc|inc|jr|ltd|no|sr")
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
    return [cleaned for sentence in sentences if (cleaned := " ".join(sentence.split()))]


def count_sentences(text: str) -> int:
    """Number of distinct sentences of the text that have enough words to count."""
    return len({normalise(sentence) for sentence in split_sentences(text) if is_whole(sentence)})


def is_whole(sentence: str) -> bool:
    """True where a piece has three different words or six CJK characters, so that `Stop. Stop.` does not count."""
    return len(set(words(sentence))) >= MIN_WORDS or len(CJK.findall(sentence)) >= MIN_CJK


def normalise(sentence: str) -> str:
    """The sentence without case, spacing and punctuation, for comparison with others."""
    return " ".join(words(sentence))


def words(text: str) -> list[str]:
    """The case-folded words of the text."""
    return [word.casefold().replace("’", "'") for word in WORD.findall(text)]


def _ends_sentence(line: str, start: int, match: re.Match[str]) -> bool:
    mark = match["mark"]
    if mark is None:  # a CJK terminator is never ambiguous
        return True
    following = line[match.end() : match.end() + 8].lstrip()[:1]
    if not following:
        return True
    if mark == ".":
        return not _is_abbreviation(line[max(start, match.start() - _TOKEN_REACH) : match.start()], following)
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
        return token.casefold() in {"e.g", "i.e"} or not following.isupper()
    if _MAY_END.fullmatch(token.casefold()):
        return not following.isupper()
    return bool(_ABBREVIATION.fullmatch(token.casefold()))
