"""Equality of short mathematical answers in LaTeX or plain text, without a computer algebra system (pure).

Two expressions are equal if they have one value, exactly where both are rational, at fixed points of their variables.
Lists, tuples, intervals, matrices and equations are compared part by part. Text is bounded, so nothing runs long.
"""

import cmath
import math
import re
import zlib
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import permutations

MAX_CHARS = 400
MAX_PARTS = 6  # of an unordered list
MAX_BITS = 4096  # of an exact power
POINTS = 3
TOLERANCE = 1e-9

Value = Fraction | complex

_SYMBOLS = {
    "−": "-", "–": "-", "×": "*", "·": "*", "⋅": "*", "÷": "/", "π": "\\pi ", "∞": "\\infty ", "√": "\\sqrt ",
    "²": "^2", "³": "^3", "½": "(1/2)", "¼": "(1/4)", "¾": "(3/4)", "°": "", "∪": "\\cup ", "±": "\\pm ", "≤": "\\le ",
    "≥": "\\ge ", "∈": "\\in ", "≠": "\\ne ", "θ": "\\theta ", "\u00a0": " ", "\u202f": " ", "\u2009": " ",
}  # fmt: skip
_REWRITES = [
    (re.compile(pattern), text)
    for pattern, text in (
        (r"\\\\", r"\\cr "),
        (r"\\[dtc](frac|binom)(?![a-zA-Z])", r"\\\1"),
        (r"\\(?:left|right|displaystyle|Bigl?|Bigr?|bigl?|bigr?|limits|mathstrut)(?![a-zA-Z])", ""),
        (r",\\!|\{,\}(?=\d{3}(?!\d))", ""),
        (r"\\[!,;:>]|\\q?quad(?![a-zA-Z])|~|\\ |\\hspace\{[^{}]*\}", " "),
        (r"\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![a-zA-Z]))|\\degree(?![a-zA-Z])|\\[$%]|[$%]", ""),
        (r"\\(?:lbrace|\{)", r"\\{"),
        (r"\\(?:rbrace|\})", r"\\}"),
        (r"\\(?:leq?|leqslant)(?![a-zA-Z])", r"\\le "),
        (r"\\(?:geq?|geqslant)(?![a-zA-Z])", r"\\ge "),
        (r"\\neq?(?![a-zA-Z])", r"\\ne "),
        (r"\\(?:cdot|times|ast)(?![a-zA-Z])", "*"),
        (r"\\div(?![a-zA-Z])", "/"),
        (r"\*\*", "^"),
        (r"<=", r"\\le "),
        (r">=", r"\\ge "),
        (r"(?<=[\d)}])\s*\\(?:text|mathrm|mbox)\s*\{(?!\s*(?:and|or)\b)\s*[a-zA-Z][a-zA-Z. ]*\}"
         r"(?:\^\{?[23]\}?)?\s*$", ""),
        (r"\\(?:text|mathrm|mbox|textbf|mathbf|operatorname|textrm|textit|mathit|rm)\s*\{([^{}]*)\}", r" \1 "),
        (r"_\{\s*(\w+)\s*\}", r"_\1"),
        (r"\\begin\{(?:[bvVp]?(?:small)?matrix|array|cases)\}(?:\{[clr|]*\})?", "["),
        (r"\\end\{(?:[bvVp]?(?:small)?matrix|array|cases)\}", "]"),
        (r"(?<=\d)\s+(?!and\b|or\b)[a-z]{3,}(?: [a-z]+)*\s*$", ""),
        (r"[(\[]\s*(\[[^\[\]]*\])\s*[)\]]", r"\1"),
    )
]  # fmt: skip
_UNIT = re.compile(
    r"(?<=[\d)}])\s*(?:(?:degrees?|radians?|cm|mm|km|ft|feet|foot|inch(?:es)?|miles?|units?|square|cubic|sq|kg|grams?|"
    r"pounds?|lbs?|seconds?|minutes?|min|hours?|hrs?|days?|weeks?|months?|years?|dollars?|cents?|percent|mph|meters?|"
    r"metres?)(?:\s*\^\s*\{?[23]\}?)?\s*)+$"
)
_GROUPED = re.compile(r"[-+]?\s*\d{1,3}(?:,\s?\d{3})+(?:\.\d+)?")
_MIXED = re.compile(
    r"(?<![\w.}^_])(\d+)\s*\\frac\s*(?:\{(\d+)\}|(\d))\s*(?:\{(\d+)\}|(\d))|"
    r"(?<![\w./^])(\d+) (\d+)/(\d+)(?![\w/])"
)
_REPEATING = re.compile(r"(\d{0,40})\.(\d{0,40})\\overline\s*\{(\d{1,40})\}")
_NAMED = re.compile(r"^\s*[a-zA-Z](?:_\w+)?\s*(?:=|\\in\b)|^\s*[a-zA-Z]\([a-z]\)\s*=")
_TOKEN = re.compile(r"\s*(\d+\.\d*|\.\d+|\d+|\\[a-zA-Z]+|[a-zA-Z]+|\\.|.)", re.DOTALL)
_SEPARATORS = {"\\cup": r"\\cup\b", "\\cr": r"\\cr\b", "&": r"&", "": r",\s*(?:and|or)\b|[,;]|\band\b|\bor\b"}
_FUNCTIONS: dict[str, Callable[[complex], complex]] = {
    "sin": cmath.sin, "cos": cmath.cos, "tan": cmath.tan, "ln": cmath.log, "log": cmath.log10, "exp": cmath.exp,
    "arcsin": cmath.asin, "arccos": cmath.acos, "arctan": cmath.atan, "sinh": cmath.sinh, "cosh": cmath.cosh,
    "tanh": cmath.tanh, "cot": lambda x: 1 / cmath.tan(x), "sec": lambda x: 1 / cmath.cos(x),
    "csc": lambda x: 1 / cmath.sin(x), "abs": abs,
}  # fmt: skip
_CLOSING = {"(": ")", "[": "]", "\\{": "\\}"}


class _NoExpression(ValueError):
    """Text that is no expression of this small grammar."""


def same_answer(given: str, expected: str) -> bool:
    """True where two answers are equal; text that is no mathematics is compared as text."""
    one, other = _clean(given), _clean(expected)
    if _bare(one) == _bare(other):
        return True
    if max(len(one), len(other)) > MAX_CHARS or not _bare(one) or not _bare(other):
        return False
    return _same(one, other)


def _same(one: str, other: str) -> bool:
    if "\\pm" in one or "\\pm" in other:
        both = [("", _signs(text)) if "\\pm" in text else _parts(text) for text in (one, other)]
        return both[0] is not None and both[1] is not None and _same_parts(both[0], both[1])
    sides = _sides(one), _sides(other)
    if sides != (None, None):
        return _same_sides(one, other, *sides)
    left, right = _parts(one), _parts(other)
    if left is not None or right is not None:
        return left is not None and right is not None and _same_parts(left, right)
    return _same_value(one, other)


def _same_sides(one: str, other: str, left: list[str] | None, right: list[str] | None) -> bool:
    """Equations: `x=5` is also 5; two equations may be turned round or multiplied."""
    if left is None or right is None:
        named, plain = (one, other) if right is None else (other, one)
        return bool(_NAMED.match(named)) and _same(_NAMED.sub("", named, count=1), plain)
    if all(_NAMED.match(text) for text in (one, other)) and _bare(left[0]) == _bare(right[0]):
        return _same(left[1], right[1])
    if len(left) != 2 or len(right) != 2 or not all("=" in text for text in (one, other)):
        return len(left) == len(right) and all(map(_same, left, right)) and _relations(one) == _relations(other)
    try:
        ratios = [_float(_difference(left, point)) / _float(_difference(right, point)) for point in range(POINTS)]
    except (_NoExpression, ArithmeticError, ValueError, RecursionError):
        return False
    return all(_close(ratio, ratios[0]) for ratio in ratios)


def _difference(sides: Sequence[str], point: int) -> Value:
    return _plus(_value(sides[0], point), _value(f"-({sides[1]})", point))


def _same_parts(left: tuple[str, list[str]], right: tuple[str, list[str]]) -> bool:
    (kind, ones), (other_kind, others) = left, right
    if kind != other_kind or len(ones) != len(others):
        return False
    if kind in ("", "\\{\\}", "\\cup") and len(ones) <= MAX_PARTS:
        return any(all(map(_same, ones, order)) for order in permutations(others))
    return all(map(_same, ones, others))


def _same_value(one: str, other: str) -> bool:
    try:
        values = [(_value(one, point), _value(other, point)) for point in range(POINTS)]
        return all(_equal(*pair) for pair in values)
    except (_NoExpression, ArithmeticError, ValueError, RecursionError):
        return False


def _equal(one: Value, other: Value) -> bool:
    if isinstance(one, Fraction) and isinstance(other, Fraction):
        return one == other
    return _close(_float(one), _float(other))


def _close(one: complex, other: complex) -> bool:
    return abs(one - other) <= TOLERANCE * max(1.0, abs(other))


@lru_cache(maxsize=4096)
def _clean(text: str) -> str:
    text = text[: 4 * MAX_CHARS].strip().strip("*").rstrip(".").strip()
    for symbol, plain in _SYMBOLS.items():
        text = text.replace(symbol, plain)
    for pattern, plain in _REWRITES:
        text = pattern.sub(plain, text)
    text = _UNIT.sub("", text.strip())
    if _GROUPED.fullmatch(text.strip()):
        text = text.replace(",", "").replace(" ", "")
    return " ".join(_REPEATING.sub(_repeating, _MIXED.sub(_mixed, text)).split())


def _mixed(match: re.Match[str]) -> str:
    whole, *numbers = (number for number in match.groups() if number)
    return f"({whole}+{numbers[0]}/{numbers[1]})" if int(numbers[0]) < int(numbers[1]) else match.group()


def _repeating(match: re.Match[str]) -> str:
    """A decimal with a repeating end, as a fraction."""
    whole, fixed, repeated = match.groups()
    first = int(whole + fixed or "0")
    return f"({int(whole + fixed + repeated) - first}/{(10 ** len(repeated) - 1) * 10 ** len(fixed)})"


def _bare(text: str) -> str:
    return re.sub(r"\s|\.0+(?!\d)", "", re.sub(r"\{(\w)\}", r"\1", text)).casefold()


def _sides(text: str) -> list[str] | None:
    sides = re.split(r"=|\\in\b|\\le\b|\\ge\b|\\ne\b|<|>", text)
    return sides if len(sides) > 1 and _parts(text) is None else None


def _relations(text: str) -> list[str]:
    return re.findall(r"=|\\in\b|\\le\b|\\ge\b|\\ne\b|<|>", text)


def _parts(text: str) -> tuple[str, list[str]] | None:
    """The kind of a list and its parts; None of a single expression."""
    text = text.strip()
    for kind, separator in _SEPARATORS.items():
        if len(pieces := _split(text, separator)) > 1:
            return kind, pieces
    opening = next((mark for mark in ("\\{", "(", "[") if text.startswith(mark)), None)
    closing = next((mark for mark in ("\\}", ")", "]") if text.endswith(mark)), None)
    if opening is None or closing is None:
        return None
    inner = text[len(opening) : len(text) - len(closing)]
    several = _parts(inner) if _balanced(inner) else None
    if several is None and opening != "\\{":
        return None
    return opening + closing, several[1] if several and several[0] == "" else [inner] if inner.strip() else []


def _split(text: str, separator: str) -> list[str]:
    """The pieces between separators that no bracket encloses."""
    pieces, depth, start = [], 0, 0
    for match in re.finditer(rf"(?P<cut>{separator})|\\?[\[\](){{}}]|\\[a-zA-Z]+|.", text, re.DOTALL):
        if match.group("cut") and depth == 0:
            pieces.append(text[start : match.start()])
            start = match.end()
        elif match.group("cut") is None:
            depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(match.group()[-1], 0)
    return [*pieces, text[start:]]


def _balanced(text: str) -> bool:
    depth = 0
    for mark in re.findall(r"[\[\](){}]", text):
        depth += 1 if mark in "([{" else -1
        if depth < 0:
            return False
    return depth == 0


def _signs(text: str) -> list[str]:
    return [text.replace("\\pm", "+"), text.replace("\\pm", "-")]


def _value(text: str, point: int) -> Value:
    parser = _Parser([token for token in _TOKEN.findall(text) if token.strip()], point)
    value = parser.sum()
    if parser.next is not None:
        raise _NoExpression(text)
    return value


class _Parser:
    """Recursive descent over the tokens of one expression; its variables have their value at a point."""

    def __init__(self, tokens: list[str], point: int) -> None:
        self._tokens = [letter for token in tokens for letter in self._letters(token)]
        self._place = 0
        self._point = point

    @staticmethod
    def _letters(token: str) -> list[str]:
        """A word that is no function is a product of variables."""
        if not token.isalpha() or token in _FUNCTIONS or token in ("sqrt", "pi", "infty", "cbrt"):
            return [token]
        if len(token) > 4:
            raise _NoExpression(token)
        return list(token)

    @property
    def next(self) -> str | None:
        """The token to be read."""
        return self._tokens[self._place] if self._place < len(self._tokens) else None

    def _take(self) -> str:
        if self.next is None:
            raise _NoExpression("end")
        self._place += 1
        return self._tokens[self._place - 1]

    def _expect(self, token: str) -> None:
        if self._take() != token:
            raise _NoExpression(token)

    def sum(self) -> Value:
        """Terms with signs between them."""
        sign = self._sign()
        total = _times(sign, self._product())
        while self.next in ("+", "-"):
            sign = self._sign()
            total = _plus(total, _times(sign, self._product()))
        return total

    def _sign(self) -> Fraction:
        sign = Fraction(1)
        while self.next in ("+", "-"):
            sign = -sign if self._take() == "-" else sign
        return sign

    def _product(self) -> Value:
        product = self._power()
        while True:
            if self.next in ("*", "/"):
                divide = self._take() == "/"
                factor = _times(self._sign(), self._power())
                product = _times(product, _power(factor, Fraction(-1)) if divide else factor)
            elif self.next is None or self.next in ("+", "-", ")", "]", "}", "\\}", "|", ",", "^", "!", "_"):
                return product
            else:
                product = _times(product, self._power())

    def _power(self) -> Value:
        base = self._atom()
        while self.next == "!":
            self._take()
            base = _factorial(base)
        if self.next != "^":
            return base
        self._take()
        return _power(base, _times(self._sign(), self._group()))

    def _group(self) -> Value:
        """The argument of a command: braces, or one token, of a number its first digit."""
        if self.next == "{":
            return self._atom()
        token = self.next
        if token is not None and token.isdigit() and len(token) > 1:
            self._tokens[self._place] = token[1:]
            return Fraction(int(token[0]))
        return self._atom()

    def _atom(self) -> Value:
        token = self._take()
        if token[0].isdigit() or token[0] == ".":
            return Fraction(token if token[-1] != "." else token[:-1])
        if token in ("(", "[", "{"):
            value = self.sum()
            self._expect({"(": ")", "[": "]", "{": "}"}[token])
            return value
        if token == "|":
            value = self.sum()
            self._expect("|")
            return abs(value) if isinstance(value, Fraction) else complex(abs(value))
        name = token.removeprefix("\\")
        if name in ("sqrt", "cbrt"):
            return self._root(Fraction(3 if name == "cbrt" else 2))
        if name == "frac":
            numerator = self._group()
            return _times(numerator, _power(self._group(), Fraction(-1)))
        if name == "binom":
            return _binomial(self._group(), self._group())
        if name in _FUNCTIONS:
            return self._function(name)
        if name == "pi":
            return complex(math.pi)
        if not name.isalpha():
            raise _NoExpression(token)
        return self._variable(name)

    def _root(self, degree: Value) -> Value:
        if self.next == "[":
            self._take()
            degree = self.sum()
            self._expect("]")
        radicand = self._group()
        root = _power(radicand, _power(degree, Fraction(-1)))
        exact = Fraction(round(root.real)) if isinstance(root, complex) and abs(root.real) < 2**31 else None
        return exact if exact is not None and _equal_power(exact, degree, radicand) else root

    def _function(self, name: str) -> Value:
        power = Fraction(1)
        base: Value | None = None
        while self.next in ("^", "_"):
            if self._take() == "^":
                power = Fraction(int(_float(_times(self._sign(), self._group())).real))
            else:
                base = self._group()
        argument = _float(self._atom() if self.next in ("(", "{", "[") else self._power())
        value: Value = complex(_FUNCTIONS[name](argument))
        if base is not None:
            value = cmath.log(argument) / cmath.log(_float(base))
        return _power(value, power)

    def _variable(self, name: str) -> Value:
        if self.next == "_":
            self._take()
            name += f"_{self._take()}"
        if name in ("e", "i"):
            return complex(math.e) if name == "e" else 1j
        return complex(1 + zlib.crc32(f"{name} {self._point}".encode()) / 2**31)


def _float(value: Value) -> complex:
    return complex(float(value)) if isinstance(value, Fraction) else value


def _plus(one: Value, other: Value) -> Value:
    if isinstance(one, Fraction) and isinstance(other, Fraction):
        return one + other
    return _float(one) + _float(other)


def _times(one: Value, other: Value) -> Value:
    if isinstance(one, Fraction) and isinstance(other, Fraction):
        return one * other
    return _float(one) * _float(other)


def _power(base: Value, exponent: Value) -> Value:
    if isinstance(base, Fraction) and isinstance(exponent, Fraction) and exponent.denominator == 1:
        bits = max(base.numerator.bit_length(), base.denominator.bit_length())
        if bits * abs(exponent.numerator) <= MAX_BITS:
            return base**exponent.numerator
    return complex(_float(base) ** _float(exponent))


def _equal_power(root: Fraction, degree: Value, radicand: Value) -> bool:
    return isinstance(radicand, Fraction) and _power(root, degree) == radicand


def _factorial(value: Value) -> Value:
    return Fraction(math.factorial(_count(value)))


def _binomial(total: Value, chosen: Value) -> Value:
    return Fraction(math.comb(_count(total), _count(chosen)))


def _count(value: Value) -> int:
    """The value as a whole number that is small enough for a factorial."""
    if not isinstance(value, Fraction) or value.denominator != 1 or not 0 <= value <= 100:
        raise _NoExpression(str(value))
    return int(value)
