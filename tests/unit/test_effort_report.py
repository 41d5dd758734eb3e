"""Success against effort in the report and in the terminal, of two scripted models."""

from dataclasses import replace
from pathlib import Path

import pytest

from rapo_ray.evaluation.results import Results
from rapo_ray.report import effort_charts, page, samples, terminal
from rapo_ray.report.parts import Chart, Fold, Table
from rapo_ray.storage.reader import read_evidence
from rapo_ray.storage.rows import write_results
from tests.unit.test_tries import GATES, Model, evaluated, results_of, weak_model

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an evaluation of two models."""
    path = tmp_path_factory.mktemp("effort")
    models = [evaluated(Model(), path, 12), evaluated(weak_model(), path, 12, name="against")]
    write_results(results_of(GATES, *models), models, path)
    return path


@pytest.fixture(scope="module")
def results(folder: Path) -> Results:
    """Its figures, as they are read back."""
    return read_evidence(folder).evaluations[0].results


def texts(table: Table) -> dict[tuple[str, str], list[str]]:
    """Rows by their first two cells."""
    return {(row[0].note or row[0].text, row[1].text): [cell.text for cell in row[2:]] for row in table.rows}


def test_curves_have_a_panel_for_each_split_and_a_line_for_each_model(results: Results) -> None:
    chart, overall, *folds = effort_charts.parts(results)
    assert isinstance(chart, Chart) and chart.data is not None and isinstance(overall, Table)
    assert chart.svg.count("held-out families") == chart.svg.count("trained families") == 1
    assert list(chart.data.columns) == ["model", "families", "1", "2", "4", "8"]
    curves = texts(chart.data)
    assert curves["model", "held-out families"] == ["0.000"] * 4
    assert curves["against", "held-out families"][-1] == "1.000"
    assert curves["against", "trained families"] == ["0.000"] * 4
    rows = texts(overall)
    assert rows["asr_at_8", "held-out families"] == ["0.000", "1.000", "-1.000"]
    assert rows["tries for half of them", "held-out families"][0] == "more than 8"
    assert rows["tries at the behaviours", "trained families"][:2] == ["96", "96"]
    assert rows["benign_answered_attacked", "held-out families"] == ["1.000", "1.000", "+0.000"]
    tables = [part for fold in folds if isinstance(fold, Fold) for part in fold.parts]
    by_family, by_k, by_attacker = (texts(table) for table in tables if isinstance(table, Table))
    assert by_family["json", "held-out families"][2] == "1.000"
    assert set(by_k) == {(str(k), split) for k in (1, 2, 3) for split in terminal.SPLITS.values()}
    assert by_attacker["random", "held-out families"][3] == "1.000"


def test_the_page_and_its_samples_tell_of_tries(folder: Path, results: Results) -> None:
    html = page.write_report(folder).read_text(encoding="utf-8")
    assert "Attack success against effort" in html
    assert "8 at each prompt by each split, chains of up to 3 families" in html
    assert "json, past_tense, thought, what_if" in html
    rows = samples.choose(read_evidence(folder)).rows
    tried = [dict(map(tuple, row["facts"])) for row in rows if "attacker" in dict(map(tuple, row["facts"]))]
    assert {one["attacker"] for one in tried} == {"random"} and {one["families"] for one in tried} == {
        "trained", "heldout"
    }  # fmt: skip
    assert effort_charts.parts(replace(results, effort=None)) == []


def test_the_terminal_shows_effort_by_split(results: Results, capsys: pytest.CaptureFixture[str]) -> None:
    terminal.show_results(results)
    out = capsys.readouterr().out
    assert "attack success within so many tries" in out
    assert "asr_at_8, held-out families: model - against -1.000 [-1.000, -1.000], n 12" in out
    assert "benign_answered_attacked, trained families: model - against +0.000" in out
    assert "asr_at_8 <= 0.2" in out
