"""Exact answers: the answer that a completion announces, compared with the one that a suite expects (pure)."""

import re

from rapo_ray.evaluation.expressions import same_answer
from rapo_ray.text.lines import split_lines

_NUMBER = re.compile(r"-?\$?\d[\d,]*(?:\.\d+)?(?:/\d+)?")
_BOX = re.compile(r"\\(?:boxed|fbox)\s*(?:\{|(?=[\w\\-]))")
_OPEN = r"[\s\"'`*_$({\[<>]*(?:\\[(\[]\s*)?(?:\\boxed\{)?(?:\\(?:text|mathrm|textbf|mathbf)\{)?\(?"
_CLOSE = r"(?![\w'’-]|\s*/\s*[A-J]\b)"
_LETTER = rf"{_OPEN}(?P<letter>[A-J])[\"'`*_$)}}\]]*{_CLOSE}(?!\s*(?:or|and)\s+\(?[A-J]\b)"
_NAME = r"(?i:option|choice|answer|letter)"
_IS = r"(?i:is|was|to be|(?:seems|appears) to be|(?:would|should|must|has to|can only|will) be)"
_ANNOUNCED = re.compile(
    r"(?:\b(?i:answer|option|choice|one|letter|solution|conclusion|correct|statement)"
    r"(?:\s+(?i:here|(?:to|among|of|for|that|which)\s+(?:\w+\s+)?\w+))?[*_]*"
    rf"(?:\s+{_IS}\s*:?|\s*[*_]*[:=–—])[*_]*(?:\s*(?i:therefore|thus|clearly|then|indeed|most likely|probably))?|"
    r"\b(?i:(?:i|we)(?:'d|'ll| would| will| must| should| can)?(?:\s+(?:therefore|thus))?\s+"
    r"(?:choose|pick|select|say|answer|conclude|go with|go for|opt for)|let's go with|it (?:must|has to) be)|"
    r"\b(?i:answer)(?=\s*\()|</?(?i:answer)>|答案\s*(?:是|为|：|:)?|选择?)"
    rf"(?:\s*(?i:the\s+)?[*_]*{_NAME})?{_LETTER}"
)
_JUDGED = re.compile(  # "(B) is correct", "(B) 12 metres is correct"
    rf"(?:^|(?<=[\s(*]))(?:{_NAME}\s+)?{_LETTER}"
    r"(?:(?:(?<=[)*])|[.:])(?:(?!\b(?:is|are|[A-J])\b)[^.?!;\n]){0,60}?)?\s*"
    r"\b(?i:is|must be|has to be)\s+(?:(?i:the|only|therefore|thus|clearly|indeed)\s+)*"
    r"(?i:correct|right|best|answer|one that (?:fits|works|holds))\b"
)
_CONCLUDED = re.compile(
    r"\b(?i:so|thus|therefore|hence|it's|it is|that's|that is|which is|gives|leaves|leaving|only|rather|think|guess)"
    rf"[,:]?\s*(?:(?i:option|choice|the answer)\s+)?{_LETTER}(?=\s*(?:[.,;:!)]|$))"
)
_LINE = re.compile(
    rf"^(?:(?i:my|final)\s+)?(?:{_NAME}\s*)?{_OPEN}(?P<letter>[A-J])[\"'`*_$)}}\]]*"
    r"(?:\s*[.):]\s*\S.*|\s*[.)]?[*_\"'`$}]*)$"
)
_SMALL = re.compile(
    r"\(([a-j])\)|(?:(?<=option )|(?<=choice )|(?<=answer )|(?<=answer: ))([a-j])\b(?=[.,;:)]|\s*$)", re.IGNORECASE
)
_STATED = re.compile(
    r"\b(?:final\s+)?answer[*_]*(?:\s+(?:is|was|will be|must be)(?!\s+not\b)|\s*:)[*_:\s]*(?P<what>[^\n]+)",
    re.IGNORECASE,
)
_FIRST_SENTENCE = re.compile(r"(?:(?!\.(?:\s|$))[^\n])+")
_SPAN = re.compile(r"\$\$(.+?)\$\$|\$(.+?)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)


def is_correct(answer: str, expected: str) -> bool:
    """True where the answer gives the expected one: an option's letter, or a term, boxed or announced, or a number."""
    if re.fullmatch("[A-J]", expected):
        return chosen_option(answer) == expected
    return any(same_answer(given, expected) for given in _given(answer))


def chosen_option(answer: str) -> str | None:
    """The letter of the option that an answer announces last; None where it announces none."""
    boxed = _boxed(answer)
    if boxed is not None and (match := re.match(_LETTER, boxed)):
        return match.group("letter")
    text = _SMALL.sub(lambda match: match.group().upper(), answer)
    announced = [match for pattern in (_ANNOUNCED, _JUDGED) for match in pattern.finditer(text)]
    if announced:
        return max(announced, key=lambda match: match.start("letter")).group("letter")
    lines = [line for line in split_lines(text.strip()) if line.strip()]
    alone = [match for line in (lines[-1:] + lines[:1]) if (match := _LINE.match(line.strip()))]
    if alone:
        return alone[0].group("letter")
    concluded = list(_CONCLUDED.finditer(text))
    return concluded[-1].group("letter") if concluded else None


def _given(answer: str) -> list[str]:
    """The term that is boxed, else the one announced, else the last formula or number."""
    boxed = _boxed(answer)
    if boxed is not None:
        return [boxed]
    stated = list(_STATED.finditer(answer))
    text = stated[-1].group("what") if stated else answer
    spans = [next(filter(None, groups)) for groups in _SPAN.findall(text)]
    if stated:
        sentence = "".join(_FIRST_SENTENCE.findall(text)[:1])
        numbers = _NUMBER.findall(sentence.rpartition("=")[2])
        return [*spans[:1], sentence, *numbers[:1]]
    return spans[-1:] or _NUMBER.findall(answer)[-1:] or [answer]


def _boxed(text: str) -> str | None:
    """Content of the last box, braces balanced; without braces, its one token."""
    boxes = list(_BOX.finditer(text))
    if not boxes:
        return None
    start = boxes[-1].end()
    if not boxes[-1].group().endswith("{"):
        return re.match(r"\\?\w+|.", text[start:])[0]  # type: ignore[index]
    depth = 1
    for position in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return text[start:position]
    return None
