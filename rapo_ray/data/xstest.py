"""XSTest: safe prompts that look unsafe, and unsafe prompts in contrast to them.

Source: paul-rottger/xstest, xstest_prompts.csv, CC-BY-4.0. Röttger et al., arXiv 2308.01263.
"""

from pathlib import Path

from rapo_ray.data.files import read_table
from rapo_ray.data.rows import LoadedSource, Row, RowError, id_of, label_of, read_rows, require_columns, text_of
from rapo_ray.types import Prompt


def load_xstest(name: str, path: Path, max_bad_share: float) -> LoadedSource:
    """Read the prompts, which are labelled `safe` or `unsafe`; raises DataError."""
    origin = f"{name} ({path})"
    rows = read_table(path)
    require_columns(origin, rows, ["prompt", "label"])

    def to_prompt(number: int, row: Row) -> Prompt:
        label = text_of(row, "label").strip().lower()
        if label not in ("safe", "unsafe"):
            raise RowError(f"label is {label!r}, not safe or unsafe")
        identity = f"{name}/{id_of(number, row)}"
        kind = label_of(row, "type")
        return Prompt(identity, text_of(row, "prompt"), label == "unsafe", None, name, "test", kind)

    return read_rows(origin, rows, to_prompt, max_bad_share)
