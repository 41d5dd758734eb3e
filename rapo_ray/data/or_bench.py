"""OR-Bench: harmless prompts that look harmful (80k, hard-1k), and toxic prompts for comparison.

Source: bench-llm/or-bench, CC-BY-4.0. Cui et al., arXiv 2405.20947.
"""

from pathlib import Path

from rapo_ray.data.files import read_table
from rapo_ray.data.rows import LoadedSource, Row, label_of, read_rows, require_columns, text_of
from rapo_ray.types import Prompt


def load_or_bench(name: str, path: Path, max_bad_share: float) -> LoadedSource:
    """Read the prompts; they are harmful if the file has `toxic` in its name, else benign; raises DataError."""
    origin = f"{name} ({path})"
    rows = read_table(path)
    require_columns(origin, rows, ["prompt"])
    harmful = "toxic" in path.stem.lower()

    def to_prompt(number: int, row: Row) -> Prompt:
        category = label_of(row, "category")
        return Prompt(f"{name}/{number}", text_of(row, "prompt"), harmful, None, name, "test", category)

    return read_rows(origin, rows, to_prompt, max_bad_share)
