"""StrongREJECT: 313 forbidden prompts.

Source: alexandrasouly/strongreject, MIT. Souly et al., arXiv 2402.10260.
"""

from pathlib import Path

from rapo_ray.data.files import read_table
from rapo_ray.data.rows import LoadedSource, Row, label_of, read_rows, require_columns, text_of
from rapo_ray.types import Prompt


def load_strongreject(name: str, path: Path, max_bad_share: float) -> LoadedSource:
    """Read the forbidden prompts, all harmful; raises DataError."""
    origin = f"{name} ({path})"
    rows = read_table(path)
    require_columns(origin, rows, ["forbidden_prompt"])

    def to_prompt(number: int, row: Row) -> Prompt:
        return Prompt(
            f"{name}/{number}", text_of(row, "forbidden_prompt"), True, None, name, "test", label_of(row, "category")
        )

    return read_rows(origin, rows, to_prompt, max_bad_share)
