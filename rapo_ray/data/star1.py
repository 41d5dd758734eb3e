"""STAR-1: 1,000 harmful questions for safety alignment of reasoning models.

Source: UCSC-VLAA/STAR-1, data/STAR-1.json, Apache-2.0. Wang et al., "STAR-1: Safer Alignment of Reasoning LLMs with
1K Data", arXiv 2504.01903.
"""

from pathlib import Path

from rapo_ray.data.files import read_table
from rapo_ray.data.rows import LoadedSource, Row, id_of, read_rows, require_columns, text_of
from rapo_ray.types import Prompt


def load_star1(name: str, path: Path, max_bad_share: float) -> LoadedSource:
    """Read the questions, all harmful and without a level; raises DataError."""
    origin = f"{name} ({path})"
    rows = read_table(path)
    require_columns(origin, rows, ["question"])

    def to_prompt(number: int, row: Row) -> Prompt:
        return Prompt(f"{name}/{id_of(number, row)}", text_of(row, "question"), True, None, name, "train")

    return read_rows(origin, rows, to_prompt, max_bad_share)
