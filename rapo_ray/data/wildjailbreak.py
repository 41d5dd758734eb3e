"""WildJailbreak: vanilla and adversarial requests, harmful and benign, in tab-separated files.

Source: allenai/wildjailbreak (gated), ODC-BY. Jiang et al., "WildTeaming at Scale", arXiv 2406.18510.
"""

from pathlib import Path

from rapo_ray.data.files import read_table
from rapo_ray.data.rows import LoadedSource, Row, RowError, columns_of, read_rows, require_columns, text_of
from rapo_ray.types import Prompt

TYPES = ("vanilla_harmful", "vanilla_benign", "adversarial_harmful", "adversarial_benign")


def load_wildjailbreak(name: str, path: Path, max_bad_share: float) -> LoadedSource:
    """Read the train or the eval file, recognised by its columns; a vanilla row has level 1; raises DataError.

    The eval file is an evaluation suite: the paper's code trains on it, which contaminates its results.
    """
    origin = f"{name} ({path})"
    rows = read_table(path)
    require_columns(origin, rows, ["adversarial", "data_type"])
    split = "train" if "vanilla" in columns_of(rows) else "eval"

    def to_prompt(number: int, row: Row) -> Prompt:
        kind = text_of(row, "data_type").strip()
        if kind not in TYPES:
            raise RowError(f"data_type is {kind!r}, not one of {', '.join(TYPES)}")
        vanilla = kind.startswith("vanilla")
        text = text_of(row, "vanilla" if vanilla else "adversarial")
        level = 1 if vanilla else None
        return Prompt(f"{name}/{split}/{number}", text, kind.endswith("harmful"), level, name, split)

    return read_rows(origin, rows, to_prompt, max_bad_share)
