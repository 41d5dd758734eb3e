"""The small packaged set, written for this package: prompts to train, tune and measure on, and demonstrations."""

from dataclasses import dataclass
from importlib.resources import as_file, files
from typing import Literal

from rapo_ray.data.files import read_table
from rapo_ray.data.rows import (
    LoadedSource,
    Row,
    harmful_of,
    id_of,
    level_of,
    read_rows,
    require_columns,
    text_of,
)
from rapo_ray.types import Prompt

SOURCE = "quickstart"

Split = Literal["train", "validation", "heldout"]


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A prompt with an exemplary completion, for the warm-up."""

    prompt: Prompt
    completion: str


def load_quickstart(name: str, split: Split, max_bad_share: float) -> LoadedSource:
    """Read the packaged prompts of one split; raises DataError where the package is damaged."""
    origin, rows = _read(split)
    require_columns(origin, rows, ["id", "text", "harmful", "level", "split"])
    return read_rows(origin, rows, lambda number, row: _prompt(number, row, name, text_of(row, "split")), max_bad_share)


def load_demonstrations() -> tuple[Demonstration, ...]:
    """Read the packaged demonstrations; raises DataError where any of them is bad."""
    origin, rows = _read("demonstrations")
    require_columns(origin, rows, ["id", "text", "harmful", "level", "completion"])

    def to_prompt(number: int, row: Row) -> Prompt:
        text_of(row, "completion")
        return _prompt(number, row, SOURCE, "demonstrations")

    prompts = read_rows(origin, rows, to_prompt, max_bad_share=0.0).prompts
    return tuple(Demonstration(prompt, text_of(row, "completion")) for prompt, row in zip(prompts, rows, strict=True))


def _read(stem: str) -> tuple[str, list[dict[str, object]]]:
    resource = files("rapo_ray.data") / SOURCE / f"{stem}.jsonl"
    with as_file(resource) as path:
        return f"{SOURCE} ({path})", read_table(path)


def _prompt(number: int, row: Row, name: str, split: str) -> Prompt:
    return Prompt(f"{name}/{id_of(number, row)}", text_of(row, "text"), harmful_of(row), level_of(row), name, split)
