"""STAR-benign-915: harmless questions that resemble STAR-1's, to measure over-refusal.

Source: UCSC-VLAA/STAR-benign-915, Apache-2.0. Wang et al., arXiv 2504.01903.
"""

from pathlib import Path

from rapo_ray.data.files import read_table
from rapo_ray.data.rows import LoadedSource, Row, id_of, read_rows, require_columns, text_of
from rapo_ray.types import Prompt


def load_star_benign(name: str, path: Path, max_bad_share: float) -> LoadedSource:
    """Read the questions, all benign and level 1 as in the paper; raises DataError."""
    origin = f"{name} ({path})"
    rows = read_table(path)
    require_columns(origin, rows, ["question"])

    def to_prompt(number: int, row: Row) -> Prompt:
        return Prompt(f"{name}/{id_of(number, row)}", text_of(row, "question"), False, 1, name, "train")

    return read_rows(origin, rows, to_prompt, max_bad_share)
