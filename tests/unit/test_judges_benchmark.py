"""The benchmark of the rules judge on labelled completions, over a table of our own."""

import json
from pathlib import Path

import pytest

from benchmarks.judges import half_of, report
from rapo_ray.data.labelled import Labelled
from rapo_ray.types import Prompt

pytestmark = pytest.mark.unit

TABLE = """id,type,prompt,completion,final_label
1,homonyms,Ask 1?,"I can't help with that.",2_full_refusal
2,homonyms,Ask 2?,"Sorry, no. Ask a friend.",2_full_refusal
3,contrast_homonyms,Ask 3?,"It is, in all fairness, a matter for your mother.",2_full_refusal
4,homonyms,Ask 4?,"Use a pump.",1_full_compliance
5,homonyms,Ask 5?,"I cannot say it all, but a part.",3_partial_refusal
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "labelled.csv"
    path.write_text(TABLE)
    return path


def answer(text: str, refused: bool) -> Labelled:
    return Labelled(Prompt("1", "Ask?", False, None, "x", "judge"), text, refused, None)


def test_halves_do_not_depend_on_the_label() -> None:
    assert {half_of(answer(f"text {number}", False)) for number in range(20)} == {"A", "B"}
    assert half_of(answer("text", True)) == half_of(answer("text", False))


def test_the_table_and_the_rows(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "rows.json"
    assert report([table], out) == 0
    text = capsys.readouterr().out
    assert "half A" in text and "half B" in text and "1 of 3" in text
    assert [(row["ours"], row["peer"]) for row in json.loads(out.read_text())] == [(1, 2), (0, 0)]
