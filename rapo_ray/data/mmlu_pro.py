"""MMLU-Pro: benign questions on many subjects with up to ten options.

Source: TIGER-Lab/MMLU-Pro, MIT. Wang et al., arXiv 2406.01574.
"""

from pathlib import Path

from rapo_ray.data.files import read_table
from rapo_ray.data.rows import LoadedSource, Row, RowError, id_of, label_of, read_rows, require_columns, text_of
from rapo_ray.types import Prompt

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def load_mmlu_pro(name: str, path: Path, max_bad_share: float) -> LoadedSource:
    """Read the questions with their lettered options, all benign; raises DataError."""
    origin = f"{name} ({path})"
    rows = read_table(path)
    require_columns(origin, rows, ["question", "options"])

    def to_prompt(number: int, row: Row) -> Prompt:
        options = row.get("options")
        if not isinstance(options, list) or not all(isinstance(option, str) for option in options):
            raise RowError("options is not a list of texts")
        lettered = "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False))
        text = f"{text_of(row, 'question')}\n{lettered}"
        identity = f"{name}/{id_of(number, row, 'question_id')}"
        answer = label_of(row, "answer")
        return Prompt(identity, text, False, None, name, path.stem, label_of(row, "category"), answer)

    return read_rows(origin, rows, to_prompt, max_bad_share)
