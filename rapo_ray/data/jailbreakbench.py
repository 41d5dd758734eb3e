"""JailbreakBench: 100 harmful and 100 benign behaviours, one CSV file each.

Source: JailbreakBench/JBB-Behaviors, MIT. Chao et al., arXiv 2404.01318.
"""

from pathlib import Path

from rapo_ray.data.files import read_table
from rapo_ray.data.rows import LoadedSource, Row, id_of, label_of, read_rows, require_columns, text_of
from rapo_ray.types import Prompt


def load_jailbreakbench(name: str, path: Path, max_bad_share: float) -> LoadedSource:
    """Read the goals; they are benign if the file has `benign` in its name, else harmful; raises DataError."""
    origin = f"{name} ({path})"
    rows = read_table(path)
    require_columns(origin, rows, ["Goal"])
    harmful = "benign" not in path.stem.lower()
    split = "harmful" if harmful else "benign"

    def to_prompt(number: int, row: Row) -> Prompt:
        identity = f"{name}/{split}/{id_of(number, row, 'Index')}"
        return Prompt(identity, text_of(row, "Goal"), harmful, None, name, split, label_of(row, "Category"))

    return read_rows(origin, rows, to_prompt, max_bad_share)
