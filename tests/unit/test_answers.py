"""Exact answers: the spellings of a table, and every published answer of MATH-500."""

import json
import re
from itertools import combinations
from pathlib import Path

import pytest

from rapo_ray.evaluation.answers import chosen_option, is_correct
from rapo_ray.evaluation.expressions import same_answer
from tests.checkout import ROOT

pytestmark = pytest.mark.unit

TABLE = (ROOT / "tests/data/answer_spellings.txt").read_text("utf-8")
ROWS = [tuple(line.split(" | ", 2)) for line in TABLE.split("\n") if line and not line.startswith("#")]
SPELLINGS = [
    (answer.strip().replace("\\n\\n", "\n\n"), expected.strip(), relation.strip() == "=")
    for expected, relation, answers in ROWS
    for answer in answers.split(" ;; ")
]


@pytest.mark.parametrize(("answer", "expected", "correct"), SPELLINGS)
def test_spellings(answer: str, expected: str, correct: bool) -> None:
    assert is_correct(answer, expected) is correct


def test_there_are_more_than_two_hundred_spellings_of_both_kinds() -> None:
    assert len(SPELLINGS) > 200
    assert sum(not correct for *_, correct in SPELLINGS) > 60


def test_published_answers_equal_themselves_and_no_other(shared_data: Path) -> None:
    lines = (shared_data / "MATH-500.jsonl").read_text("utf-8").split("\n")
    rows = [json.loads(line) for line in lines if line]
    assert all(is_correct(row["solution"], row["answer"]) for row in rows)
    assert all(is_correct(f"\\boxed{{{row['answer']}}}", row["answer"]) for row in rows)
    answers = sorted({row["answer"] for row in rows}, key=lambda answer: (re.sub(r"\W", "", answer), answer))
    neighbours = [pair for first in range(len(answers)) for pair in combinations(answers[first : first + 4], 2)]
    equal = {tuple(sorted(pair)) for pair in neighbours if same_answer(*pair)}
    assert equal == {tuple(sorted(pair)) for pair in (
        ("2 \\sqrt{5}", "2\\sqrt{5}"), ("30", "30^\\circ"), ("90", "90^\\circ"), ("\\frac14", "\\frac{1}{4}"),
        ("120", "120^\\circ"), ("15", "15\\mbox{ cm}^2"), ("36", "36^\\circ"), ("36", "\\$36"), ("\\$36", "36^\\circ"),
        ("10080", "10,\\!080"),
    )}  # fmt: skip


@pytest.mark.parametrize(
    "text",
    ["9^{9^{9^{9}}}", "10^{999999999}", "(" * 300, "\\sqrt" * 90, "100!!!!", "1/0", "0^{-1}", "\\log 0", "{" * 200,
     "\\frac", "^", "|||", "a,b,c,d,e,f,g,h", "-" * 399 + "1", "\ud800", "\\tan{90}", "2^{3^{4^{5}}}", "x_",
     "\\pm" * 50, "&" * 300, "1," * 200],
)  # fmt: skip
def test_nothing_is_too_much(text: str) -> None:
    assert not same_answer(text, "31/7")
    assert not same_answer("31/7", text)
    assert same_answer(text, text)
    assert same_answer(f"x = {text}", text) in (True, False)


@pytest.mark.parametrize("answer", ["", "I", "A", " ", "Nothing here.", "A or B", "I and a friend (we) ask: why?"])
def test_prose_letters_choose_nothing_unless_they_stand_alone(answer: str) -> None:
    assert chosen_option(answer) == (answer if len(answer.strip()) == 1 else None)
