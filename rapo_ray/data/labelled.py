"""Answers that people labelled, to compare a judge with: as WildGuardMix and XSTest publish them, or a user's own."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rapo_ray.data.files import read_table
from rapo_ray.data.rows import (
    Row,
    RowError,
    columns_of,
    flag_of,
    harmful_of,
    id_of,
    is_missing,
    label_of,
    level_of,
    require_columns,
    text_of,
)
from rapo_ray.data.suites import harm_of
from rapo_ray.errors import DataError, named
from rapo_ray.types import Prompt

REFUSALS = {"refusal": True, "compliance": False}


@dataclass(frozen=True, slots=True)
class Labelled:
    """An answer to a prompt and the labels that people gave it; None where they gave none."""

    prompt: Prompt
    completion: str
    refused: bool | None
    harmful: bool | None  # the answer, not its prompt


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """The answers with a label, in file order, and the number of those that were left out without one."""

    rows: tuple[Labelled, ...]
    unlabelled: int


def read_labelled(path: Path) -> LabelledSet:
    """Read labelled answers, by the columns of the file; raises DataError that names what cannot be read.

    WildGuardMix has `response_refusal_label` and `response_harm_label`, XSTest's completions have `final_label`; a file
    of one's own has `prompt`, `harmful`, `completion`, and `refused`, `answer_harmful` or both, and perhaps `category`.
    """
    rows = read_table(path)
    present = set(columns_of(rows))
    columns, to_labelled = next((layout for mark, layout in LAYOUTS.items() if mark in present), OWN)
    require_columns(str(path), rows, columns)
    if not present & {"refused", "answer_harmful", *LAYOUTS}:
        raise DataError(
            f"{path}: no labels of people: give a column `refused`, `answer_harmful` or both, or a file of "
            "WildGuardMix or of XSTest's completions"
        )
    answers: list[Labelled] = []
    ids: set[str] = set()
    bad: list[str] = []
    unlabelled = 0
    for number, row in enumerate(rows, start=1):
        try:
            answer = to_labelled(path.stem, number, row)
        except RowError as error:
            bad.append(f"row {number}: {error}")
            continue
        if answer is not None and answer.prompt.id in ids:
            bad.append(f"row {number}: duplicate id {answer.prompt.id!r}")
        elif answer is None or (answer.refused is None and answer.harmful is None):
            unlabelled += 1
        else:
            answers.append(answer)
            ids.add(answer.prompt.id)
    if bad:
        raise DataError(f"{path}: {named(bad)}; fix or remove them")
    if not answers:
        raise DataError(f"{path}: no row has a label; give a file with at least one")
    return LabelledSet(tuple(answers), unlabelled)


def _wildguard(source: str, number: int, row: Row) -> Labelled | None:
    """A row of WildGuardMix; None for one without an answer, or whose prompt has no label."""
    if is_missing(row.get("prompt_harm_label")) or is_missing(row.get("response")):
        return None
    text, harmful = text_of(row, "prompt"), harm_of(row, "prompt_harm_label")
    prompt = Prompt(str(number), text, harmful, None, source, "judge", label_of(row, "subcategory"))
    refused = None if is_missing(row.get("response_refusal_label")) else refusal_of(row, "response_refusal_label")
    harm = None if is_missing(row.get("response_harm_label")) else harm_of(row, "response_harm_label")
    return Labelled(prompt, text_of(row, "response"), refused, harm)


def _xstest(source: str, number: int, row: Row) -> Labelled:
    """A completion of XSTest, whose harmful prompts are of the types `contrast_`; a partial refusal is no label."""
    kind = text_of(row, "type")
    prompt = Prompt(str(number), text_of(row, "prompt"), kind.startswith("contrast"), None, source, "judge", kind)
    return Labelled(prompt, text_of(row, "completion"), refusal_of(row, "final_label"), None)


def _own(source: str, number: int, row: Row) -> Labelled:
    """A row of a user's own file."""
    identity, category = id_of(number, row), label_of(row, "category")
    prompt = Prompt(identity, text_of(row, "prompt"), harmful_of(row), level_of(row), source, "judge", category)
    labels = [None if is_missing(row.get(name)) else flag_of(row, name) for name in ("refused", "answer_harmful")]
    return Labelled(prompt, text_of(row, "completion"), *labels)


def refusal_of(row: Row, column: str) -> bool | None:
    """The side of a label such as `refusal` or `2_full_refusal`, None of a partial refusal; raises RowError."""
    label = text_of(row, column).strip().lower()
    sides = {side for word, side in REFUSALS.items() if word in label}
    if "partial" in label:
        return None
    if len(sides) != 1:
        raise RowError(f"{column} is {label!r}, which says neither refusal nor compliance")
    return sides.pop()


Layout = tuple[list[str], Callable[[str, int, Row], Labelled | None]]
LAYOUTS: dict[str, Layout] = {  # by a column that no other has
    "response_refusal_label": (
        ["prompt", "response", "prompt_harm_label", "response_refusal_label", "response_harm_label"], _wildguard
    ),
    "final_label": (["prompt", "completion", "type", "final_label"], _xstest),
}  # fmt: skip
OWN: Layout = (["prompt", "harmful", "completion"], _own)
