"""A user's own file of prompts, a table of any kind that is read."""

from pathlib import Path

from rapo_ray.data.dialogue import request_of
from rapo_ray.data.files import read_table, split_of
from rapo_ray.data.rows import (
    LoadedSource,
    Row,
    RowError,
    columns_of,
    harmful_of,
    id_of,
    is_missing,
    label_of,
    level_of,
    read_rows,
    require_columns,
)
from rapo_ray.errors import DataError
from rapo_ray.types import Prompt


def load_file(name: str, path: Path, text_column: str, harmful: bool | None, max_bad_share: float) -> LoadedSource:
    """Read `text_column` and, where there are any, `harmful`, `level`, `id`, `category`, `expected` (the exact answer),
    `style` and `language`.

    A cell of `text_column` is a text, or a dialogue as a list of turns. The split is the file's name without its kind.
    The argument `harmful` labels every row of a file without that column; raises DataError where both are missing.
    """
    origin = f"{name} ({path})"
    rows, split = read_table(path), split_of(path)
    require_columns(origin, rows, [text_column])
    labelled = "harmful" in columns_of(rows)
    if rows and not labelled and harmful is None:
        raise DataError(f"{origin}: no column 'harmful'; add it, or set `harmful: true` or `false` for the source")

    def to_prompt(number: int, row: Row) -> Prompt:
        turns, text = request_of(row, text_column)
        label = harmful_of(row) if labelled else bool(harmful)
        category, expected = label_of(row, "category"), _expected_of(row)
        return Prompt(
            f"{name}/{id_of(number, row)}", text, label, level_of(row), name, split, category, expected,
            style=label_of(row, "style"), language=label_of(row, "language"),
            turns=turns,
        )  # fmt: skip

    return read_rows(origin, rows, to_prompt, max_bad_share)


def _expected_of(row: Row) -> str | None:
    """The exact answer, if any; raises RowError for one that is neither text nor a number."""
    value, answer = row.get("expected"), label_of(row, "expected")
    if isinstance(value, list) or (answer is None and not is_missing(value)):
        raise RowError(f"expected is {type(value).__name__}, not text or a number")
    return answer
