"""GSM8K: benign arithmetic problems.

Source: openai/gsm8k, MIT. Cobbe et al., arXiv 2110.14168.
"""

from pathlib import Path

from rapo_ray.data.files import read_table
from rapo_ray.data.rows import LoadedSource, Row, label_of, read_rows, require_columns, text_of
from rapo_ray.types import Prompt


def load_gsm8k(name: str, path: Path, max_bad_share: float) -> LoadedSource:
    """Read the questions, all benign; raises DataError."""
    origin = f"{name} ({path})"
    rows = read_table(path)
    require_columns(origin, rows, ["question"])

    def to_prompt(number: int, row: Row) -> Prompt:
        worked = label_of(row, "answer") or ""  # the solution, then `#### ` and the number
        _, mark, number_only = worked.rpartition("####")
        expected = number_only.strip() if mark else None
        return Prompt(f"{name}/{number}", text_of(row, "question"), False, None, name, path.stem, None, expected)

    return read_rows(origin, rows, to_prompt, max_bad_share)
