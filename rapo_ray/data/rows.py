"""Raw rows of a file become prompts; bad rows are quarantined with a reason, and nothing is guessed."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from rapo_ray.data.files import Unread
from rapo_ray.errors import DataError
from rapo_ray.types import Prompt

MAX_CHARACTERS = 200_000
REASONS_SHOWN = 3
NOT_A_NUMBER = ("nan", "<na>")  # an empty cell that a program wrote as text
BLANKS = ("", *NOT_A_NUMBER, "none", "null", "-nan", "na", "#na", "n/a", "#n/a")  # the same among numbers
WHOLE = re.compile(r"([+-]?[0-9]{1,18})(?:\.0*)?")

Row = Mapping[str, object]


class RowError(ValueError):
    """A row cannot become a prompt; the message is the reason recorded in the quarantine."""


class EmptyRow(RowError):
    """A row that its format means to be without a prompt or a label; it is listed, but does not count as bad."""


@dataclass(frozen=True, slots=True)
class BadRow:
    """A quarantined row; `row` is its number, counted from 1 without the header."""

    source: str
    row: int
    reason: str
    meant: bool = False  # to be left out, by its format


@dataclass(frozen=True, slots=True)
class LoadedSource:
    """The usable prompts of a source, in file order, and its quarantined rows."""

    prompts: tuple[Prompt, ...]
    quarantined: tuple[BadRow, ...]


def read_rows(
    source_name: str,
    raw_rows: Iterable[Row],
    to_prompt: Callable[[int, Row], Prompt],
    max_bad_share: float,
    seen: dict[str, str] | None = None,
) -> LoadedSource:
    """Convert the rows of a file (called `source_name` in messages) into prompts with distinct ids and texts.

    `to_prompt` takes the row number, counted from 1, and raises RowError for a bad row, EmptyRow for one that is meant
    to be empty and is none of those whose share is limited. `seen` has the texts of the other files of the same source.
    Raises DataError where too many rows are bad or none is usable.
    """
    quarantined: list[BadRow] = []
    seen = {} if seen is None else seen
    ids: set[str] = set()
    prompts: list[Prompt] = []
    total = 0
    for total, row in enumerate(raw_rows, start=1):
        try:
            prompt = to_prompt(total, row)
            _refuse_repeat(prompt, ids, seen)
        except RowError as error:
            quarantined.append(BadRow(source_name, total, str(error), isinstance(error, EmptyRow)))
            continue
        ids.add(prompt.id)
        seen[_wording(prompt)] = f"row {total} of {source_name}"
        prompts.append(prompt)
    _check_share(source_name, quarantined, total, max_bad_share)
    return LoadedSource(tuple(prompts), tuple(quarantined))


def _check_share(source_name: str, quarantined: Sequence[BadRow], total: int, max_bad_share: float) -> None:
    """Raise DataError where no row is usable, or more than `max_bad_share` of `total` rows are bad."""
    if total == 0:
        raise DataError(f"{source_name}: holds no rows; give a file with at least one")
    bad_rows = [row for row in quarantined if not row.meant]
    bad, total = len(bad_rows), total - (len(quarantined) - len(bad_rows))
    if total == 0:
        raise DataError(f"{source_name}: all {len(quarantined)} rows are left out ({quarantined[0].reason})")
    if bad < total and bad <= max_bad_share * total:
        return
    reasons = "; ".join(f"row {row.row}: {row.reason}" for row in bad_rows[:REASONS_SHOWN])
    raise DataError(
        f"{source_name}: {bad} of {total} rows are bad, more than the allowed share of {max_bad_share:g} "
        f"({reasons}{'; ...' if bad > REASONS_SHOWN else ''}); fix or remove them"
    )


def _refuse_repeat(prompt: Prompt, ids: set[str], seen: Mapping[str, str]) -> None:
    if prompt.id in ids:
        raise RowError(f"duplicate id {_short(prompt.id)}")
    first = seen.get(_wording(prompt))
    if first is not None:
        raise RowError(f"duplicate text of {first}")


def _wording(prompt: Prompt) -> str:
    """The text, and the turns before it, which make the same text another request."""
    return "\x1e".join((*(f"{turn.role}:{turn.content.strip()}" for turn in prompt.turns), prompt.text.strip()))


def require_columns(source_name: str, rows: Sequence[Row], columns: Sequence[str]) -> None:
    """Raise DataError for a column that no row has; where only some rows lack it, those are bad rows."""
    present = columns_of(rows)
    missing = [column for column in columns if column not in present]
    if rows and missing:
        raise DataError(
            f"{source_name}: no column {', '.join(map(repr, missing))}; found {', '.join(map(repr, present)) or 'none'}"
        )


def columns_of(rows: Iterable[Row]) -> list[str]:
    """All columns of the rows, in order of appearance."""
    return list(dict.fromkeys(column for row in rows for column in row))


def is_missing(value: object) -> bool:
    """True for None, an empty text, and for NaN as a number or as the text that programs write for it."""
    if isinstance(value, str):
        return value.strip().lower() in ("", *NOT_A_NUMBER)
    return value is None or value != value


def text_of(row: Row, column: str) -> str:
    """The unchanged text of a column; raises RowError where it is not usable text."""
    value = row.get(column)
    if value is None:
        raise RowError(f"{column} is missing")
    if is_missing(value) and str(value).strip():
        raise RowError(f"{column} is NaN")
    if isinstance(value, Unread):
        raise RowError(f"{column} is {value}, not text")
    if not isinstance(value, str):
        raise RowError(f"{column} is {type(value).__name__}, not text")
    if not value.strip():
        raise RowError(f"{column} is empty")
    if len(value) > MAX_CHARACTERS:
        raise RowError(f"{column} has {len(value):,} characters, over {MAX_CHARACTERS:,}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise RowError(f"{column} is not Unicode text (lone surrogate at character {error.start})") from error
    return value


def whole_of(value: object) -> int | None:
    """The whole number in a cell, which tables also write as 1.0 or "1.0"; None for anything else, bools too."""
    if isinstance(value, str):
        match = WHOLE.fullmatch(value.strip())
        return int(match[1]) if match else None
    if isinstance(value, float | Decimal) and value == value and abs(value) != math.inf:
        return int(value) if value == int(value) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def harmful_of(row: Row) -> bool:
    """The label in the column `harmful`, as `flag_of` reads it."""
    return flag_of(row, "harmful")


def flag_of(row: Row, column: str) -> bool:
    """The truth in a column: a bool, 0 or 1, or "true" or "false"; raises RowError for anything else."""
    value = row.get(column)
    word = value.strip().lower() if isinstance(value, str) else value
    if isinstance(word, bool) or word in ("true", "false"):
        return word in (True, "true")
    number = whole_of(value)
    if number in (0, 1):
        return number == 1
    raise RowError(f"{column} is {_short(value)}, not true or false")


def level_of(row: Row) -> int | None:
    """The number in the column `level`, 1 to 3, or None where the cell is empty; raises RowError for anything else."""
    value = row.get("level")
    if is_missing(value) or (isinstance(value, str) and value.strip().lower() in BLANKS):
        return None
    number = whole_of(value)
    if number in (1, 2, 3):
        return number
    raise RowError(f"level is {_short(value)}, not 1, 2, 3 or empty")


def id_of(number: int, row: Row, column: str = "id") -> str:
    """The row's id (text or a whole number), or its number where the column is missing; raises RowError."""
    if column not in row:
        return str(number)
    value = row[column]
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool) and not is_missing(value):
        if (whole := whole_of(value)) is None:
            raise RowError(f"{column} is {_short(value)}, not text or a whole number")
        return str(whole)
    return text_of(row, column).strip()


def label_of(row: Row, *columns: str) -> str | None:
    """The first text, number or list of these in the given columns, as text, or None."""
    return next((text for column in columns if (text := _label(row.get(column)))), None)


def _label(value: object) -> str:
    if isinstance(value, list):
        return "; ".join(filter(None, map(_label, value)))
    if is_missing(value) or isinstance(value, bool):
        return ""
    whole = None if isinstance(value, str) else whole_of(value)
    return str(value if whole is None else whole).strip() if isinstance(value, str | int | float | Decimal) else ""


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 40 else f"{shown[:37]}..."
