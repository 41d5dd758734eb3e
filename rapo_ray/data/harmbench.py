"""HarmBench: harmful behaviours, some of which refer to a context.

Source: centerforaisafety/HarmBench, harmbench_behaviors_text_all.csv, MIT. Mazeika et al., arXiv 2402.04249.
"""

from pathlib import Path

from rapo_ray.data.files import read_table
from rapo_ray.data.rows import LoadedSource, Row, id_of, label_of, read_rows, require_columns, text_of
from rapo_ray.types import Prompt


def load_harmbench(name: str, path: Path, max_bad_share: float) -> LoadedSource:
    """Read the behaviours, each after its context if it has one; all are harmful; raises DataError."""
    origin = f"{name} ({path})"
    rows = read_table(path)
    require_columns(origin, rows, ["Behavior"])

    def to_prompt(number: int, row: Row) -> Prompt:
        text = text_of(row, "Behavior")
        if row.get("ContextString"):
            text = f"{text_of(row, 'ContextString')}\n\n{text}"
        category = label_of(row, "SemanticCategory", "FunctionalCategory")
        return Prompt(f"{name}/{id_of(number, row, 'BehaviorID')}", text, True, None, name, "test", category)

    return read_rows(origin, rows, to_prompt, max_bad_share)
