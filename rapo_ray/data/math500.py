"""MATH-500: benign reasoning problems.

Source: MATH-500.jsonl as in UCSC-VLAA/STAR-1, benchmark/ (Apache-2.0 repository; MATH itself is MIT). Lightman et al.,
"Let's Verify Step by Step", arXiv 2305.20050; Hendrycks et al., arXiv 2103.03874.
"""

from pathlib import Path

from rapo_ray.data.files import read_table
from rapo_ray.data.rows import LoadedSource, Row, id_of, label_of, read_rows, require_columns, text_of
from rapo_ray.types import Prompt


def load_math500(name: str, path: Path, max_bad_share: float) -> LoadedSource:
    """Read the problems, all benign and without a level, as `level` is their difficulty; raises DataError."""
    origin = f"{name} ({path})"
    rows = read_table(path)
    require_columns(origin, rows, ["problem"])

    def to_prompt(number: int, row: Row) -> Prompt:
        identity = f"{name}/{id_of(number, row, 'unique_id')}"
        subject, answer = label_of(row, "subject"), label_of(row, "answer")
        return Prompt(identity, text_of(row, "problem"), False, None, name, "test", subject, answer)

    return read_rows(origin, rows, to_prompt, max_bad_share)
