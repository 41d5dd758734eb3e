"""Parts of a page; the template shows each by its class."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from rapo_ray.statistics import Bounds, excludes_zero

NONE = "-"  # in place of a figure that there is not


@dataclass(frozen=True, slots=True)
class Cell:
    """Text of a table's cell, a smaller line below it, and a tone (`good`, `bad`, `unsure`) that colours it."""

    text: str
    note: str = ""
    tone: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows below named columns; the first `words` columns are text, the others are figures and aligned as such."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    words: int = 1


@dataclass(frozen=True, slots=True)
class Chart:
    """An inline SVG, what it shows in words, and its data."""

    title: str
    svg: Markup
    caption: str
    data: Table | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """A warning (tone `bad` or `unsure`), or a plain sentence."""

    text: str
    tone: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """Names and values."""

    items: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Fold:
    """Parts that are hidden until they are opened."""

    title: str
    parts: Sequence["Part"]


@dataclass(frozen=True, slots=True)
class Heading:
    """A title within a section."""

    text: str


Part = Table | Chart | Notice | Facts | Fold | Heading


@dataclass(frozen=True, slots=True)
class Section:
    """One entry of the table of contents; `empty` is its text where it has no parts."""

    id: str
    title: str
    lead: str
    empty: str
    parts: Sequence[Part] = ()


def cells(*values: str | Cell) -> list[Cell]:
    """Row of a table."""
    return [value if isinstance(value, Cell) else Cell(value) for value in values]


def number(value: float | None, form: str = ".3f") -> str:
    """Figure as text; a dash where there is none, or it is not a number."""
    return NONE if value is None or value != value else format(value, form)


def difference(value: float | None, ci95: Bounds | None, n: int) -> Cell:
    """Paired difference with its interval and n, in bold where the interval excludes zero."""
    return replace(figure(value, ci95, n, "+.3f"), tone="sure" if excludes_zero(ci95) else "")


def figure(value: float | None, ci95: Bounds | None, n: int, form: str = ".3f") -> Cell:
    """Figure with its interval and n."""
    if value is None:
        return Cell(NONE)
    bounds = f"[{number(ci95[0], form)}, {number(ci95[1], form)}]  " if ci95 else ""
    return Cell(number(value, form), f"{bounds}n {n}")
