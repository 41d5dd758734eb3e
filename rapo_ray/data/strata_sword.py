"""StrataSword: jailbreak prompts of three levels of reasoning complexity, one xlsx file each.

Source: Alibaba-AAIG/Strata-Sword (Hugging Face: OysterAI/Strata-Sword), Apache-2.0. Zhao et al., "Strata-Sword: A
Hierarchical Safety Evaluation towards LLMs based on Reasoning Complexity of Jailbreak Instructions", arXiv 2509.01444.
"""

import re
from pathlib import Path

from rapo_ray.data.files import read_table
from rapo_ray.data.rows import LoadedSource, Row, columns_of, label_of, read_rows, text_of
from rapo_ray.errors import DataError
from rapo_ray.types import Prompt

FILES = tuple(f"strata_sword_en_level_{level}.xlsx" for level in (1, 2, 3))  # Chinese files are read one by one
TEXT_COLUMNS = ("jailbreak instruction", "攻击指令")  # the English level 2 and 3 files have Chinese headers


def load_strata_sword(name: str, path: Path, max_bad_share: float) -> LoadedSource:
    """Read one level's file, or all three if `path` is a folder; all prompts are harmful; raises DataError."""
    if not path.exists():
        raise DataError(f"{name} ({path}): no such file or folder; check the path")
    files = [path / file for file in FILES] if path.is_dir() else [path]
    seen: dict[str, str] = {}
    levels = [_load_level(name, file, max_bad_share, seen) for file in files]
    return LoadedSource(
        tuple(prompt for level in levels for prompt in level.prompts),
        tuple(bad for level in levels for bad in level.quarantined),
    )


def _load_level(name: str, path: Path, max_bad_share: float, seen: dict[str, str]) -> LoadedSource:
    origin = f"{name} ({path})"
    level = _level(path)
    rows = read_table(path)
    column = _text_column(origin, rows)
    split = f"level_{level}"

    def to_prompt(number: int, row: Row) -> Prompt:
        category = label_of(row, "risk type", "风险分类") or _method(row)
        return Prompt(f"{name}/{split}/{number}", text_of(row, column), True, level, name, split, category)

    return read_rows(origin, rows, to_prompt, max_bad_share, seen)


def _method(row: Row) -> str | None:
    """The attack method, which the published files name in place of a risk; level 1 has the word None."""
    method = label_of(row, "attack method", "攻击方法")
    return None if method == "None" else method


def _level(path: Path) -> int:
    match = re.search(r"level_([123])(?![0-9])", path.stem)
    if match is None:
        raise DataError(f"{path}: no level in the file name; expected a name like {FILES[0]}, or their folder")
    return int(match.group(1))


def _text_column(origin: str, rows: list[dict[str, object]]) -> str:
    present = columns_of(rows)
    for column in TEXT_COLUMNS:
        if column in present or not rows:
            return column
    raise DataError(
        f"{origin}: no column {' or '.join(map(repr, TEXT_COLUMNS))}; found {', '.join(map(repr, present))}"
    )
