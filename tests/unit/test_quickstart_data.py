import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from rapo_ray.judging.rules import RulesJudge
from rapo_ray.models.chat import parse_completion
from rapo_ray.types import Case, Prompt

pytestmark = pytest.mark.unit

FOLDER = Path(__file__).parents[2] / "rapo_ray" / "data" / "quickstart"
FILES = ("train", "heldout", "demonstrations")


def rows_of(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FOLDER / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def prompt_of(row: dict[str, Any]) -> Prompt:
    return Prompt(row["id"], row["text"], row["harmful"], row["level"], "quickstart", row.get("split", "train"))


def grams_of(text: str) -> set[tuple[str, ...]]:
    tokens = re.findall(r"\w+", text.casefold())
    return {tuple(tokens[start : start + 8]) for start in range(len(tokens) - 7)}


@pytest.mark.parametrize("row", rows_of("demonstrations"), ids=lambda row: str(row["id"]))
def test_each_demonstration_earns_both_rewards(row: dict[str, Any]) -> None:
    verdict = RulesJudge().judge(prompt_of(row), parse_completion(row["completion"], False))
    assert (verdict.case, verdict.risk, verdict.general) == (Case.ADEQUATE, 1.0, 1.0), verdict
    assert verdict.refused is row["harmful"]


def test_demonstrations_have_the_agreed_shape_and_differ() -> None:
    completions = [row["completion"] for row in rows_of("demonstrations")]
    assert all(re.fullmatch(r"<think>\n[^\n]+\n</think>\n\n[^\n]+", text) for text in completions)
    assert len({parse_completion(text, False).trace for text in completions}) == len(completions)
    assert len({parse_completion(text, False).answer for text in completions}) == len(completions)


@pytest.mark.parametrize("name", FILES)
def test_rows_are_typed_and_numbered(name: str) -> None:
    rows = rows_of(name)
    extra = ("completion", str) if name == "demonstrations" else ("split", str)
    kinds = {"id": str, "text": str, "harmful": bool, "level": int, extra[0]: extra[1]}
    assert all({key: type(value) for key, value in row.items()} == kinds for row in rows)
    prefix = "demo" if name == "demonstrations" else name
    assert [row["id"] for row in rows] == [f"{prefix}/{number}" for number in range(1, len(rows) + 1)]
    assert all(row.get("split", name) == name for row in rows)


def test_counts_and_balance() -> None:
    counts = {name: Counter((row["harmful"], row["level"]) for row in rows_of(name)) for name in FILES}
    assert counts["train"].total() >= 150
    assert counts["heldout"].total() == 72
    assert counts["demonstrations"].total() >= 120
    for name, cells in counts.items():
        assert {level for _, level in cells} == {1, 2, 3}
        assert all(cells[harmful, level] >= 5 for harmful in (True, False) for level in (1, 2))
        harmful = sum(count for (label, _), count in cells.items() if label)
        assert 0.43 <= harmful / cells.total() <= 0.52, name


@pytest.mark.parametrize("name", FILES)
def test_prompts_stay_short_and_the_order_is_mixed(name: str) -> None:
    rows = rows_of(name)
    limits = {1: 14, 2: 30, 3: 60}
    assert not [row["text"] for row in rows if len(row["text"].split()) > limits[row["level"]]]
    assert {row["harmful"] for row in rows[:16]} == {True, False}


def test_no_text_appears_twice() -> None:
    texts = Counter(" ".join(row["text"].casefold().split()) for name in FILES for row in rows_of(name))
    assert [text for text, count in texts.items() if count > 1] == []


@pytest.mark.parametrize(("one", "other"), [("train", "heldout"), ("train", "demonstrations"), FILES[1:]])
def test_files_share_no_run_of_eight_words(one: str, other: str) -> None:
    grams = {gram for row in rows_of(one) for gram in grams_of(row["text"])}
    assert grams
    assert [row["text"] for row in rows_of(other) if grams & grams_of(row["text"])] == []
