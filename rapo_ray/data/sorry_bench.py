"""SORRY-Bench: unsafe instructions of 44 categories, plain and in twenty altered styles.

Source: sorry-bench/sorry-bench-202503 (gated), its own licence. Xie et al., arXiv 2406.14598.
"""

from pathlib import Path

from rapo_ray.data.files import read_table
from rapo_ray.data.rows import LoadedSource, Row, id_of, label_of, read_rows, require_columns, text_of
from rapo_ray.types import Prompt


def load_sorry_bench(name: str, path: Path, max_bad_share: float) -> LoadedSource:
    """Read the first turn of every question in every style; all are harmful; raises DataError."""
    origin = f"{name} ({path})"
    rows = read_table(path)
    require_columns(origin, rows, ["turns"])

    def to_prompt(number: int, row: Row) -> Prompt:
        turns = row.get("turns")
        text = text_of({"turns": turns[0] if isinstance(turns, list) and turns else turns}, "turns")
        style = row.get("prompt_style") or "base"
        return Prompt(
            f"{name}/{id_of(number, row, 'question_id')}/{style}",
            text,
            True,
            None,
            name,
            "test",
            label_of(row, "category"),
        )

    return read_rows(origin, rows, to_prompt, max_bad_share)
