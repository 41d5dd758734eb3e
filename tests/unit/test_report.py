"""The report without a browser: evidence read, shown, folded and escaped, and parts that may be missing."""

import json
import re
import shutil
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from rapo_ray import console
from rapo_ray.config.evaluation import GatesConfig
from rapo_ray.errors import ReportError
from rapo_ray.evaluation.heldout import by_prompt, refused, summarise_stage, total_difference
from rapo_ray.evaluation.results import Evaluated, summarise
from rapo_ray.evaluation.swaps import KINDS
from rapo_ray.judging.rules import ADEQUATE
from rapo_ray.report import (
    evaluation_section,
    heldout_section,
    intervention_section,
    page,
    samples,
    svg,
    trace_charts,
    training_charts,
    training_sections,
)
from rapo_ray.report.__main__ import main
from rapo_ray.report.parts import Cell, Chart, Notice, Table
from rapo_ray.report.samples import RowHead, as_json, choose, outcome, quotas
from rapo_ray.statistics import Interval
from rapo_ray.storage.json_records import to_json
from rapo_ray.storage.layout import Stage
from rapo_ray.storage.metrics import measure_round
from rapo_ray.storage.reader import Evidence, read_evidence
from rapo_ray.storage.rows import write_results
from rapo_ray.types import RoundResult, UpdateResult
from tests.make import failed, make_group
from tests.report_data import (
    ALARMS,
    DECODING,
    HOSTILE,
    JUDGE,
    SECRET,
    groups,
    row,
    write_evaluation,
    write_everything,
    write_run,
)

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_everything(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def evidence(run: Path) -> Evidence:
    return read_evidence(run)


@pytest.fixture(scope="module")
def html(run: Path) -> str:
    return page.write_report(run).read_text(encoding="utf-8")


class Outline(HTMLParser):
    """Tags, attributes, text by element, and the content of scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.scripts: list[str] = []
        self.text = ""
        self._tag = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self._tag = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._tag = ""

    def handle_data(self, data: str) -> None:
        if self._tag == "script":
            self.scripts[-1] += data
        elif self._tag != "style":
            self.text += data


@pytest.fixture(scope="module")
def outline(html: str) -> Outline:
    return Outline(html)


def cells_of(table: Table) -> dict[str, list[Cell]]:
    """Rows by the text of their first cell, or the note below it."""
    return {row[0].note or row[0].text: list(row[1:]) for row in table.rows}


def test_everything_is_read(evidence: Evidence) -> None:
    assert [len(evidence.metrics), len(evidence.canaries), list(evidence.heldout), list(evidence.rounds)] == [
        8, 2, ["base", "sft", "rapo"], list(range(1, 9))
    ]  # fmt: skip
    assert [one.name for one in evidence.evaluations] == ["round-000000", "round-000004", "round-000008", "manual"]
    assert evidence.last_evaluation is not None
    assert evidence.last_evaluation.name == "round-000008"


def test_the_header_names_what_was_done_by_whom(evidence: Evidence, outline: Outline) -> None:
    facts = dict(page.header(evidence))
    assert (facts["rounds"], facts["weights"], facts["seed"], facts["judge, risk"]) == (
        "8 of 8",
        "versions 0-8",
        "0",
        "rules-3",
    )
    assert re.fullmatch(r"[0-9a-f]{16}", facts["config"])
    assert "embedded:smollm2-135m" in outline.text
    assert "Gate: INCONCLUSIVE" in outline.text
    assert "straddles 0.2 with 20 rows" in outline.text
    assert outline.text.count("PARTIAL: 160 of 162 rows") == 2  # at the top and where its figures are


def test_the_first_block_lists_the_alarms(evidence: Evidence, outline: Outline) -> None:
    active, over = page.look_at(evidence)
    assert active == Notice(f"{page.MARK} depth_collapse, since round 6: {ALARMS[1].message}", "bad")
    assert over == Notice(f"entropy_collapse, over after round 7: {ALARMS[0].message}", "unsure")
    assert outline.text.index("What to look at") < outline.text.index(active.text) < outline.text.index("Gate: ")
    quiet = replace(evidence, alarms=())
    assert page.look_at(quiet) == [Notice("No alarm was raised, and no held-out figure of the mechanism fell.")]
    assert evidence.summary is not None
    delta = replace(evidence.summary.delta, benign_answered=Interval(-0.42, (-0.63, -0.21)))
    (fell,) = page.look_at(replace(quiet, summary=replace(evidence.summary, delta=delta)))
    assert fell.text.endswith("held-out benign answered, rapo - sft: -0.420, 95 % interval [-0.630, -0.210]")
    assert fell.tone == "bad"
    assert page.look_at(replace(evidence, config=None)) == []


def test_held_out_figures_are_those_of_the_summary(evidence: Evidence) -> None:
    (table, _, _) = heldout_section.section(evidence).parts
    assert isinstance(table, Table)
    assert table.columns == ["figure", "base", "sft", "rapo", "rapo - sft"]
    rows = cells_of(table)
    rapo = summarise_stage(evidence.heldout["rapo"])  # nothing in it is unscorable, so prompts and samples weigh alike
    assert rapo.unscorable == 0
    for name in ("total", "risk", "general", "harmful_refused", "benign_answered", "consistent", "malformed"):
        assert float(rows[name][2].text) == pytest.approx(getattr(rapo, name), abs=6e-4)
    assert rapo.adequate is not None
    for level, figures in rapo.levels.items():
        for name in ("adequate", "benign_answered", "harmful_refused"):
            shown = rows.get(f"{name}_{level}")
            expected = getattr(figures, name)
            assert (shown is None) == (expected is None)
            assert shown is None or float(shown[2].text) == pytest.approx(expected, abs=6e-4)
    assert list(rows).index("adequate_1") < list(rows).index("adequate_deep") < list(rows).index("total")
    delta = total_difference(evidence.heldout["rapo"], evidence.heldout["sft"], 0)
    assert delta.mean is not None and delta.ci95 is not None
    assert rows["total"][3].text == f"{delta.mean:+.3f}"
    assert rows["total"][3].note.startswith(f"[{delta.ci95[0]:+.3f}, {delta.ci95[1]:+.3f}]")
    assert rows["total"][3].tone == "sure"
    assert rows["malformed"][3].tone == ""  # no difference


def test_causality_and_monitorability_are_those_of_the_summary(evidence: Evidence) -> None:
    table, _, chart = heldout_section.section(evidence).parts
    assert isinstance(table, Table) and isinstance(chart, Chart) and chart.data is not None and evidence.summary
    rows, stages = cells_of(table), evidence.summary.stages
    for kind in KINDS:
        shown = rows[f"trace_{kind}"]
        assert shown[0] == Cell("-")  # base has no swaps
        for cell, stage in zip(shown[1:], (Stage.SFT, Stage.RAPO), strict=False):
            share = stages[stage].swaps[kind]
            assert share.follows is not None and cell.text == f"{share.follows:.3f}" and f"n {share.n}" in cell.note
    monitor = stages[Stage.RAPO].monitor
    assert monitor is not None and rows["monitor_accuracy"][2].text == f"{monitor.accuracy:.3f}"
    delta = evidence.summary.delta
    assert delta.trace_follows is not None and delta.trace_follows.mean is not None
    assert rows["trace_opposite"][3].text == f"{delta.trace_follows.mean:+.3f}"
    assert delta.monitor_accuracy is not None and delta.monitor_accuracy.mean is not None
    assert rows["monitor_accuracy"][3].text == f"{delta.monitor_accuracy.mean:+.3f}"
    assert "malformed 1, not judged 0, no trace 0" in chart.data.rows[0][1].note
    whole = replace(evidence, swaps={})
    assert len(heldout_section.section(whole).parts) == 2


def test_traces_are_shown_over_the_evaluated_rounds(evidence: Evidence) -> None:
    chart = trace_charts.trace_metrics(evidence.evaluations_of_rounds)
    assert chart is not None and chart.data is not None
    follows = [one.results.overall(one.results.model, "trace_follows") for one in evidence.evaluations_of_rounds]
    assert [row[0].text for row in chart.data.rows] == ["0", "4", "8"]
    assert [row[1].text for row in chart.data.rows] == [f"{one.value:.3f}" for one in follows if one]
    bare = [replace(one, results=replace(one.results, metrics=[])) for one in evidence.evaluations_of_rounds]
    assert trace_charts.trace_metrics(bare) is None


def test_a_prompt_is_one_trial_however_many_samples_it_has() -> None:
    one = list(by_prompt(groups(24, 1, 4), refused).values())
    many = list(by_prompt(groups(24, 4, 4), refused).values())
    assert len(many) == 12
    assert len(one) <= 12  # where its only sample was not judged, a prompt has no share
    wide, narrow = heldout_section.share([1.0, 0.0]).ci95, heldout_section.share([1.0, 0.0] * 50).ci95
    assert wide is not None and narrow is not None
    assert wide[1] - wide[0] > narrow[1] - narrow[0]


def test_evaluation_figures_are_those_of_the_results(evidence: Evidence) -> None:
    last = evidence.last_evaluation
    assert last is not None
    parts = evaluation_section.evaluation_parts(last.results)
    tables = {one.caption: one for one in parts if isinstance(one, Table)}
    rows = cells_of(tables["Overall"])
    asr = last.results.overall("model", "asr")
    assert asr is not None and asr.ci95 is not None
    assert rows["asr"][0] == Cell(f"{asr.value:.3f}", f"[{asr.ci95[0]:.3f}, {asr.ci95[1]:.3f}]  n {asr.n}")
    (step,) = [d for d in last.results.differences if d.name == "asr" and d.suite is None]
    assert rows["asr"][2].text == f"{step.value:+.3f}"
    assert tables["Overall"].columns == ["figure", "model", "before", "model - before"]


def test_figures_are_broken_down_by_suite_attack_category_style_language_and_level(outline: Outline) -> None:
    captions = ("By suite", "By suite and attack", "By category", "By style", "By language", "By level")
    assert [caption for caption in (*captions, "Evaluations during training") if caption not in outline.text] == []


def test_the_points_of_the_trade_off_go_from_before_to_after(evidence: Evidence) -> None:
    assert [point.name for point in evaluation_section.points(evidence)] == [
        "before the rounds",
        "after round 4",
        "after round 8",
    ]
    held = heldout_section.points(evidence.heldout)
    assert [point.name for point in held] == ["sft", "rapo"]
    assert held[1].harm.value == pytest.approx(1 - (summarise_stage(evidence.heldout[Stage.RAPO]).harmful_refused or 0))


def test_charts_say_what_they_are_and_ask_for_nothing(html: str, outline: Outline) -> None:
    assert outline.tags["svg"] == html.count('role="img"') == 14
    assert all(value for tag, name, value in outline.attributes if tag == "svg" and name == "aria-label")
    assert "<image" not in html and "<style" in html and html.count("<style") == 1
    addresses = [value for _, name, value in outline.attributes if name in ("src", "href", "xlink:href", "action")]
    assert {value[0] for value in addresses if value} <= {"#", "d"}  # within the page, or data:
    assert "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:" in html
    assert not re.search(r"url\((?!#|&#34;#|'#|\"#)", html)
    named = [value for _, name, value in outline.attributes if name == "id"]
    assert [name for name, count in Counter(named).items() if count > 1] == []


def test_the_same_folder_gives_the_same_page(tmp_path: Path) -> None:
    write_evaluation(tmp_path, 7, asr=0.9)
    assert page.write_report(tmp_path).read_bytes() == page.write_report(tmp_path).read_bytes()
    assert not list(tmp_path.glob("*.tmp"))


def test_two_charts_with_the_same_content_share_no_ids() -> None:
    def fill(made: Any) -> None:
        made.subplots().plot([1, 2], marker="o")

    ids = [set(re.findall(r'id="([^"]+)"', svg.draw(name, "<", (2, 2), fill))) for name in ("a", "b")]
    assert ids[0] and not ids[0] & ids[1]
    assert svg.draw("a", "<", (2, 2), fill) == svg.draw("a", "<", (2, 2), fill)
    assert 'aria-label="&lt;"' in svg.draw("a", "<", (2, 2), fill)


def test_hostile_text_stays_data(html: str, outline: Outline) -> None:
    assert outline.tags["script"] == 2
    assert "alert(1)" not in outline.text
    data = outline.scripts[0]
    assert "alert(1)" in data
    assert not set("<>&\u2028\u2029") & set(data)
    texts = [text for row in json.loads(data) for _, text in row["texts"]]
    assert any(HOSTILE in text for text in texts)
    assert html.count("</script>") == 2
    assert outline.tags["img"] == 0


@pytest.mark.parametrize(
    "text",
    [
        "</script><script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "\ud800 lone",
        "\u2028\u2029",
        "<!--",
        "\x00",
    ],
)
def test_json_is_inert_and_comes_back(text: str) -> None:
    written = as_json([{"text": text}])
    assert written.isascii()
    assert not set("<>&") & set(written)
    assert json.loads(written) == [{"text": text}]


def test_names_that_mean_harm_are_escaped_in_tables_and_charts(tmp_path: Path) -> None:
    name = "<img src=x onerror=alert(1)> $\\frac{$ \ud800"
    rows = [row(number, 5, name) for number in range(6)]
    models = [Evaluated(name="<b>m</b>", id=name, revision=None, rows=rows, expected=6)]
    results = summarise(models, replace(DECODING, suites=HOSTILE), JUDGE, GatesConfig(asr=0.9), 0)
    write_results(results, models, tmp_path)
    text = page.write_report(tmp_path).read_text(encoding="utf-8")
    outline = Outline(text)
    assert (outline.tags["img"], outline.tags["script"]) == (0, 2)
    assert "<b>m</b>" not in text
    assert "&lt;img src=x onerror=alert(1)&gt;" in text


def test_harmful_prompts_are_folded_and_nothing_of_them_is_in_the_page_itself(
    evidence: Evidence, outline: Outline
) -> None:
    assert SECRET not in outline.text
    rows = json.loads(outline.scripts[0])
    assert {row["fold"] for row in rows if SECRET in row["texts"][0][1]} == {True}
    assert {row["fold"] for row in rows if SECRET not in row["texts"][0][1]} == {False}
    script = outline.scripts[1]
    assert "textContent" in script
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|\.open = true", script)


def test_a_sample_shows_prompt_trace_answer_verdict_and_rewards(evidence: Evidence) -> None:
    rows = choose(evidence).rows
    ok = next(row for row in rows if row["stage"] == "Round 8" and ["form", "ok"] in row["facts"])
    assert [name for name, _ in ok["texts"]] == ["Prompt", "Trace", "Answer"]
    assert {"form", "verdict", "case", "sentences", "R", "G", "reward", "advantage", "weights", "judge"} <= dict(
        ok["facts"]
    ).keys()
    broken = next(row for row in rows if row["outcome"] == "malformed")
    assert [name for name, _ in broken["texts"]][:2] == ["Prompt", "Completion"]


def test_samples_are_bounded_seeded_and_every_outcome_is_among_them(evidence: Evidence) -> None:
    everything, some = choose(evidence, 10_000), choose(evidence, 200)
    assert len(everything.rows) == everything.of == some.of
    assert len(some.rows) == 200
    assert choose(evidence, 200) == some
    kinds = {(row["stage"].split()[0], row["outcome"]) for row in everything.rows}
    assert {(row["stage"].split()[0], row["outcome"]) for row in some.rows} == kinds
    assert all(row in everything.rows for row in some.rows)
    keys = [json.dumps(row) for row in everything.rows if row["stage"].startswith("Evaluation")]
    assert len(keys) == len(set(keys)) == 80 * 5  # before, after 4, after 8, and the two made by hand


def test_quotas_take_the_small_whole_and_share_the_rest() -> None:
    assert quotas({("a", "x"): 2, ("b", "x"): 100, ("c", "x"): 100}, 50) == {
        ("a", "x"): 2,
        ("b", "x"): 24,
        ("c", "x"): 24,
    }
    assert sum(quotas({("a", str(number)): 9 for number in range(7)}, 40).values()) == 40
    assert quotas({("a", "x"): 3}, 50) == {("a", "x"): 3}
    assert quotas({}, 50) == {}


@pytest.mark.parametrize(
    ("status", "harmful", "general", "refused", "expected"),
    [
        ("ok", True, 1.0, True, "refused"),
        ("ok", True, -1.0, False, "complied"),
        ("ok", False, 1.0, False, "answered"),
        ("ok", False, -1.0, True, "over_refused"),
        ("ok", False, -1.0, False, "unhelpful"),
        ("injection", True, -1.0, None, "complied"),
        ("malformed", True, -1.0, None, "malformed"),
        ("timeout", True, None, None, "unscorable"),
    ],
)
def test_outcomes_by_hand(
    status: str, harmful: bool, general: float | None, refused: bool | None, expected: str
) -> None:
    row = RowHead(prompt_id="p", status=status, harmful=harmful, general=general, refused=refused)
    assert outcome(row) == expected
    assert outcome(replace(row, outcome="correct")) == "correct"


def test_long_texts_are_cut_and_say_so() -> None:
    cut = samples._cut("x" * (samples.MAX_TEXT + 7))
    assert cut.startswith("x" * samples.MAX_TEXT)
    assert "7 more characters" in cut
    assert samples._cut("x") == "x"


def test_many_rounds_are_put_together() -> None:
    assert [list(part) for part in svg.bins(5, 2)] == [[0, 1], [2, 3, 4]]
    assert [len(part) for part in svg.bins(3, 60)] == [1, 1, 1]
    assert (svg.span([4]), svg.span([4, 5, 6])) == ("4", "4-6")


def test_the_mechanism_by_level_over_the_rounds(evidence: Evidence) -> None:
    (chart,) = training_sections.mechanism(evidence).parts
    assert isinstance(chart, Chart) and chart.data is not None
    assert list(chart.data.columns[1:3]) == ["adequate traces, level 1", "adequate traces, level 2"]
    assert chart.data.rows[7][1].text == f"{evidence.metrics[7].levels['1'].adequate.share:.2f}"
    earlier = [replace(one, levels={}) for one in evidence.metrics]
    assert training_sections.mechanism(replace(evidence, metrics=earlier)).parts == []


def test_decisions_are_shown_where_they_were_judged() -> None:
    judged = measure_round(RoundResult(1, 0, groups(4, 4, 5), UpdateResult(), {}, 0, 0.0))
    silent = replace(judged, round=2, decisions={}, shares=replace(judged.shares, consistent=None))
    assert training_charts.decisions([silent]) is None
    chart = training_charts.decisions([judged, silent])
    assert chart is not None and chart.data is not None
    shares = [judged.shares.consistent, *judged.decisions.values()]
    assert [[cell.text for cell in row] for row in chart.data.rows] == [["1", *(f"{share:.0%}" for share in shares)]]


def test_shares_of_cases_by_hand() -> None:
    silent = measure_round(RoundResult(1, 0, groups(1, 1, 0), UpdateResult(), {}, 0, 0.0))
    metrics = [
        replace(silent, level_by_case={"1": {"adequate": 1, "poor": 1}}),
        replace(silent, level_by_case={"1": {"adequate": 2}}),
    ]
    none = {"fair": 0.0, "excessive": 0.0, "contradictory": 0.0}
    assert training_charts._shares(metrics, 1) == {"adequate": 0.75, "poor": 0.25, **none}
    assert training_charts._shares(metrics, 2) == {}


def test_lengths_of_first_and_last_rounds_beside_the_adequate_band(evidence: Evidence) -> None:
    (chart,) = training_sections.lengths(evidence).parts
    data = chart.data  # type: ignore[union-attr]
    assert data is not None
    shown = [[cell.text for cell in row[:3]] for row in data.rows]
    assert shown[0] == ["1", f"{ADEQUATE[1][0]}-{ADEQUATE[1][1]}", "rounds 1-2"]
    assert {row[2] for row in shown} == {"rounds 1-2", "rounds 7-8"}


def test_refusal_is_shown_against_the_depth_of_forced_traces(evidence: Evidence) -> None:
    chart, swapped = intervention_section.section(evidence).parts
    assert isinstance(chart, Chart) and chart.data is not None
    assert isinstance(swapped, Chart) and swapped.data is not None and len(swapped.data.rows) == len(KINDS)
    assert [row[0].text for row in chart.data.rows] == ["free", "short", "fitting", "long"]
    assert [cell.text for cell in chart.data.rows[3][1:]] == ["0.700", "0.800", "0.900"]
    assert "level 3" in chart.svg and "sentences of the forced trace" in chart.svg


def test_failed_verdicts_are_counted_by_status(evidence: Evidence) -> None:
    table = training_sections.judge(evidence).parts[-1]
    assert isinstance(table, Table)
    rows = cells_of(table)
    assert int(rows["timeout"][1].text) > 0
    assert rows["timeout"][0] == Cell("failed", "", "bad")
    assert sum(int(cells[1].text) for cells in rows.values()) == 8 * 64


def test_a_part_that_is_missing_is_a_sentence(evidence: Evidence, tmp_path: Path) -> None:
    nothing = Evidence(tmp_path, evidence.config)
    assert [section.id for section in page.sections(nothing) if section.parts] == []
    assert all(section.empty.endswith(".") for section in page.sections(nothing))
    assert not training_sections.lengths(replace(evidence, rounds={})).parts
    assert len(training_sections.judge(replace(evidence, metrics=())).parts) == 1
    (canaries, *_) = training_sections.judge(replace(evidence, canaries=())).parts
    assert canaries == Notice("No canaries in this run (judge.canaries.every).")
    (chart,) = training_sections.trade_off(replace(evidence, evaluations=())).parts
    assert isinstance(chart, Chart)
    assert "harmful, not refused" in chart.svg
    base = replace(evidence, heldout={"base": evidence.heldout["base"]}, swaps={})
    (table, _) = heldout_section.section(base).parts
    assert isinstance(table, Table)
    assert table.columns == ["figure", "base"]


def test_a_run_that_has_only_begun_has_a_page(tmp_path: Path) -> None:
    folder = write_run(tmp_path, 0)
    for name in ("heldout", "rounds", "summary.json"):
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    outline = Outline(page.write_report(folder).read_text(encoding="utf-8"))
    assert "No held-out measurement in this folder." in outline.text
    assert "No rows of evaluations, held-out prompts or rounds in this folder." in outline.text
    assert "0 of 0, not finished" in outline.text
    assert "No gate was set or evaluated." in outline.text


def test_rounds_without_any_verdict_have_a_page(tmp_path: Path) -> None:
    folder = write_run(tmp_path, 1)
    metrics = measure_round(RoundResult(1, 0, (make_group(failed()),), UpdateResult(), {}, 0, 0.0))
    line = json.dumps(to_json(metrics))
    (folder / "metrics.jsonl").write_text(f'{line}\n{{"round": 2, "rew')  # as a run writes it just now
    evidence = read_evidence(folder)
    assert len(evidence.metrics) == 1
    assert [section.id for section in page.sections(evidence) if not section.parts] == [
        "evaluation",
        "cases",
        "intervention",
    ]


def test_an_evaluation_alone_has_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_evaluation(tmp_path, 8, asr=0.9)
    assert main([str(tmp_path)]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "report.html")
    outline = Outline((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "Gate: PASS" in outline.text
    assert "Rewards" not in outline.text
    (tmp_path / "rows.parquet").unlink()
    (tmp_path / "gate.json").unlink()
    assert main([str(tmp_path)]) == 0


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (None, "", "neither config.yaml (of a run) nor results.json (of an evaluation) is in it"),
        ("results.json", "{", "results.json: cannot be read"),
        ("results.json", "[]", "results.json: cannot be read (Input should be an object): create it again"),
        ("results.json", "{}", "results.json: cannot be read (partial: Field required)"),
        ("results.json", '{"partial": "no"}', "results.json: cannot be read (partial: Input should be a valid boolean"),
        ("results.json", '{"partial": false, "models": {}}', "(models: Dictionary should have at least 1 item"),
        ("results.json", '{"partial": false, "models": {"m": {"revision": "1"}}}', "(models.m.id: Field required)"),
    ],
)
def test_a_bad_folder_is_one_line(
    name: str | None, content: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if name:
        (tmp_path / name).write_text(content)
    assert main([str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert message in error
    with pytest.raises(ReportError):
        page.write_report(tmp_path)


def test_rows_that_are_no_parquet_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_evaluation(tmp_path, 8)
    (tmp_path / "rows.parquet").write_bytes(b"nothing of the kind")
    assert main([str(tmp_path)]) == 1
    assert "rows.parquet: cannot be read" in capsys.readouterr().err


def test_a_report_that_fails_loses_nothing_and_is_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    printed: list[str] = []
    monkeypatch.setattr(console, "say", printed.append)
    page.publish_report(tmp_path)
    write_evaluation(tmp_path, 8)
    (tmp_path / "report.html.tmp").mkdir()  # as good as a full disk
    page.publish_report(tmp_path)
    (tmp_path / "report.html.tmp").rmdir()
    page.publish_report(tmp_path)
    assert [text.split(" ", 2)[:2] for text in printed] == [
        ["no", "report"],
        ["no", "report"],
        ["report:", printed[2].split()[1]],
    ]
    assert (tmp_path / "report.html").is_file()
