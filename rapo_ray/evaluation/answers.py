"""Exact answers: the last answer that a completion gives, compared with the one that a suite expects (pure)."""

import re

_CHOICE = re.compile(r"answer\s*(?:is|:)?\s*\**\s*\(?([A-J])\b", re.IGNORECASE)
_NUMBER = re.compile(r"-?\$?\d[\d,]*(?:\.\d+)?(?:/\d+)?")
_SPACING = re.compile(r"\\[!,;: ]|\\left|\\right|\s+")


def is_correct(answer: str, expected: str) -> bool:
    """True where the answer ends with the expected one: an option's letter, a boxed term, or a number."""
    if re.fullmatch("[A-J]", expected):
        letters = _CHOICE.findall(answer) or re.findall(r"\b([A-J])\b", answer)
        return bool(letters) and letters[-1].upper() == expected
    given = _boxed(answer)
    if given is None:
        numbers = _NUMBER.findall(answer)
        given = numbers[-1] if numbers else answer
    return _same(given, expected)


def _boxed(text: str) -> str | None:
    """Content of the last \\boxed{...}, braces balanced."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    depth = 0
    for position in range(start + len("\\boxed"), len(text)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return text[start + len("\\boxed{") : position]
    return None


def _same(given: str, expected: str) -> bool:
    one, other = _plain(given), _plain(expected)
    if one == other:
        return True
    try:
        return abs(_value(one) - _value(other)) <= 1e-9 * max(1.0, abs(_value(other)))
    except (ValueError, ZeroDivisionError):
        return False


def _plain(text: str) -> str:
    text = re.sub(r"\\(?:text|mathrm|mbox)\{([^{}]*)\}", r"\1", text)
    text = re.sub(r"\\[dt]frac", r"\\frac", text)
    text = re.sub(r"\\frac\{(-?\d+)\}\{(-?\d+)\}", r"\1/\2", text)
    text = _SPACING.sub("", text).strip("$.").replace("\\$", "").replace("$", "").replace("\\%", "").rstrip("%")
    return re.sub(r"(?<=\d),(?=\d{3})", "", text)


def _value(text: str) -> float:
    numerator, slash, denominator = text.partition("/")
    return float(numerator) / float(denominator) if slash else float(numerator)
