"""Raw rows of a file become prompts; bad rows are quarantined with a reason, and nothing is guessed."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from rapo_ray.errors import DataError
from rapo_ray.types import Prompt

MAX_CHARACTERS = 200_000
REASONS_SHOWN = 3

Row = Mapping[str, object]


class RowError(ValueError):
    """A row cannot become a prompt; the message is the reason recorded in the quarantine."""


@dataclass(frozen=True, slots=True)
class BadRow:
    """A quarantined row; `row` is its number, counted from 1 without the header."""

    source: str
    row: int
    reason: str


@dataclass(frozen=True, slots=True)
class LoadedSource:
    """The usable prompts of a source, in file order, and its quarantined rows."""

    prompts: tuple[Prompt, ...]
    quarantined: tuple[BadRow, ...]


@dataclass(slots=True)
class Quarantine:
    """The bad rows of one file."""

    source: str
    rows: list[BadRow] = field(default_factory=list)

    def add(self, row: int, reason: str) -> None:
        """Quarantine one row."""
        self.rows.append(BadRow(self.source, row, reason))

    def check(self, total: int, max_bad_share: float) -> None:
        """Raise DataError where no row is usable, or more than `max_bad_share` of `total` rows are bad."""
        bad = len(self.rows)
        if bad < total and bad <= max_bad_share * total:
            return
        if total == 0:
            raise DataError(f"{self.source}: holds no rows; give a file with at least one")
        reasons = "; ".join(f"row {row.row}: {row.reason}" for row in self.rows[:REASONS_SHOWN])
        raise DataError(
            f"{self.source}: {bad} of {total} rows are bad, more than the allowed share of {max_bad_share:g} "
            f"({reasons}{'; ...' if bad > REASONS_SHOWN else ''}); fix or remove them"
        )


def read_rows(
    source_name: str,
    raw_rows: Iterable[Row],
    to_prompt: Callable[[int, Row], Prompt],
    max_bad_share: float,
    seen: dict[str, str] | None = None,
) -> LoadedSource:
    """Convert the rows of a file (called `source_name` in messages) into prompts with distinct ids and texts.

    `to_prompt` takes the row number, counted from 1, and raises RowError for a bad row. `seen` has the texts of the
    other files of the same source. Raises DataError where too many rows are bad or none is usable.
    """
    quarantine = Quarantine(source_name)
    seen = {} if seen is None else seen
    ids: set[str] = set()
    prompts: list[Prompt] = []
    total = 0
    for total, row in enumerate(raw_rows, start=1):
        try:
            prompt = to_prompt(total, row)
            _refuse_repeat(prompt, ids, seen)
        except RowError as error:
            quarantine.add(total, str(error))
            continue
        ids.add(prompt.id)
        seen[prompt.text.strip()] = f"row {total} of {source_name}"
        prompts.append(prompt)
    quarantine.check(total, max_bad_share)
    return LoadedSource(tuple(prompts), tuple(quarantine.rows))


def _refuse_repeat(prompt: Prompt, ids: set[str], seen: Mapping[str, str]) -> None:
    if prompt.id in ids:
        raise RowError(f"duplicate id {_short(prompt.id)}")
    first = seen.get(prompt.text.strip())
    if first is not None:
        raise RowError(f"duplicate text of {first}")


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


def text_of(row: Row, column: str) -> str:
    """The unchanged text of a column; raises RowError where it is not usable text."""
    value = row.get(column)
    if value is None:
        raise RowError(f"{column} is missing")
    if isinstance(value, float) and math.isnan(value):
        raise RowError(f"{column} is NaN")
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


def harmful_of(row: Row, column: str = "harmful") -> bool:
    """The label of a column: a bool, 0 or 1, or "true" or "false"; raises RowError for anything else."""
    value = row.get(column)
    if isinstance(value, int | float) and value in (0, 1):
        return bool(value)
    word = value.strip().lower() if isinstance(value, str) else ""
    if word in ("true", "1", "false", "0"):
        return word in ("true", "1")
    raise RowError(f"{column} is {_short(value)}, not true or false")


def level_of(row: Row, column: str = "level") -> int | None:
    """The level of a column, 1 to 3, or None where the cell is empty; raises RowError for anything else."""
    value = row.get(column)
    if value is None or value == "":
        return None
    number = int(value) if isinstance(value, str) and value.strip() in ("1", "2", "3") else value
    if isinstance(number, int | float) and not isinstance(number, bool) and number in (1, 2, 3):
        return int(number)
    raise RowError(f"{column} is {_short(value)}, not 1, 2, 3 or empty")


def id_of(number: int, row: Row, column: str = "id") -> str:
    """The row's id (text or a whole number), or its number where the column is missing; raises RowError."""
    if column not in row:
        return str(number)
    value = row[column]
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return text_of(row, column).strip()


def label_of(row: Row, *columns: str) -> str | None:
    """The first text or whole number in the given columns, as text, or None."""
    for column in columns:
        value = row.get(column)
        if isinstance(value, str | int) and not isinstance(value, bool) and str(value).strip():
            return str(value).strip()
    return None


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 40 else f"{shown[:37]}..."
