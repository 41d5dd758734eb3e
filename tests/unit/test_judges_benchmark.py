"""The benchmark of the rules judge on labelled completions, over a table of our own."""

import json
from pathlib import Path

import pytest

from benchmarks.judges import Labelled, Score, read_labelled, refused_by, report, score
from rapo_ray.errors import DataError
from rapo_ray.text.refusals import is_refusal

pytestmark = pytest.mark.unit

TABLE = """id,prompt,completion,final_label
1,Ask 1?,"I can't help with that.",2_full_refusal
2,Ask 2?,"Sorry, no. Ask a friend.",2_full_refusal
3,Ask 3?,"It is, in all fairness, a matter for your mother.",2_full_refusal
4,Ask 4?,"Use a pump.",1_full_compliance
5,Ask 5?,"I cannot say it all, but a part.",3_partial_refusal
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "labelled.csv"
    path.write_text(TABLE)
    return path


def test_counts_and_intervals(table: Path) -> None:
    labelled = read_labelled(table, "final_label")
    assert [one.refused for one in labelled] == [True, True, True, False]
    counted = score(is_refusal, labelled)
    assert counted == Score(1, 3, 0, 1)
    assert counted.recall.mean == pytest.approx(1 / 3) and counted.precision.mean == 1.0
    assert counted.recall.ci95 is not None and counted.recall.ci95[0] < 1 / 3 < counted.recall.ci95[1]


def test_halves_do_not_depend_on_the_label() -> None:
    halves = {Labelled("Ask?", f"text {number}", False).half for number in range(20)}
    assert halves == {"A", "B"}
    assert Labelled("Ask?", "text", True).half == Labelled("Ask?", "text", False).half


@pytest.mark.parametrize(
    ("label", "refused"),
    [("2_full_refusal", True), ("refusal", True), ("1_full_compliance", False), ("compliance", False),
     ("3_partial_refusal", None), ("harmful", None), ("refusal or compliance", None)],
)  # fmt: skip
def test_labels(label: str, refused: bool | None) -> None:
    assert refused_by(label) is refused


def test_another_label_is_named(table: Path) -> None:
    with pytest.raises(DataError, match=r"row 1: id is .*a column that says refusal or compliance"):
        read_labelled(table, "id")


def test_the_table_and_the_rows(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "rows.json"
    assert report([table], "final_label", out) == 0
    text = capsys.readouterr().out
    assert "half A" in text and "half B" in text and "1 of 3" in text
    assert [(row["ours"], row["peer"]) for row in json.loads(out.read_text())] == [(1, 2), (0, 0)]
