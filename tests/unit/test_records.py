"""Stored records: files of version 0.1.0 stay readable and come out as they went in; strictness; one reader of all."""

import ast
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from rapo_ray.errors import ReportError
from rapo_ray.evaluation.gate import Gate
from rapo_ray.evaluation.intervention import InterventionResults
from rapo_ray.evaluation.results import Results
from rapo_ray.evaluation.rows import EvalRow, from_dict
from rapo_ray.monitoring.sinks import flatten
from rapo_ray.monitoring.status import facts, read_status
from rapo_ray.pipeline.evaluate import Identity
from rapo_ray.preferences import export
from rapo_ray.report.page import render
from rapo_ray.simulation.profile import read_profile
from rapo_ray.storage.json_records import from_json, to_json
from rapo_ray.storage.layout import EvaluationLayout, RunLayout, Stage, round_name, round_of
from rapo_ray.storage.metrics import CanaryMetrics, RoundMetrics
from rapo_ray.storage.reader import (
    read_evaluations,
    read_evidence,
    read_lines,
    read_metrics,
    read_object,
    read_rows,
    read_verdicts,
)
from rapo_ray.storage.records import Best, ContaminationRow, RunSummary, VerdictRow, WarmupStep
from rapo_ray.storage.rows import SampleRow, to_groups, write_groups, write_rows

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "data"
RUN = RunLayout(DATA / "run-0.1.0")

LINES = [
    (RoundMetrics, RUN.metrics),
    (CanaryMetrics, RUN.canaries),
    (ContaminationRow, RUN.contamination),
    (WarmupStep, RUN.warmup_log),
    (VerdictRow, DATA / "verdicts-0.1.0.jsonl"),
]
OBJECTS = [
    (RunSummary, RUN.summary),
    (InterventionResults, RUN.study),
    *((Results, RUN.evaluation(round_name(number)).results) for number in (0, 2)),
    *((Gate, RUN.evaluation(round_name(number)).gate) for number in (0, 2)),
]
CHUNKS = [
    RUN.evaluation("round-000000").rows_of("before"),
    RUN.evaluation("round-000002").rows_of("model"),
    *(EvaluationLayout(RUN.intervention).rows_of(depth) for depth in ("free", "short", "fitting", "long")),
]


def earlier(written: object, read: object) -> object:
    """Record as written, without the keys of later versions, which are null or empty where it was read without."""
    if isinstance(written, list) and isinstance(read, list):
        return [earlier(*pair) for pair in zip(written, read, strict=True)]
    if not isinstance(written, dict) or not isinstance(read, dict):
        return written
    later = {name: value for name, value in written.items() if name not in read}
    assert not any(later.values()), later
    return {name: earlier(value, read[name]) for name, value in written.items() if name in read}


@pytest.mark.parametrize(("kind", "path"), LINES, ids=lambda value: getattr(value, "name", None))
def test_lines_of_0_1_0_come_out_as_they_went_in(kind: type, path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) > 1
    assert [json.dumps(earlier(to_json(from_json(kind, line)), json.loads(line))) for line in lines] == lines


@pytest.mark.parametrize(("kind", "path"), OBJECTS, ids=lambda value: getattr(value, "name", None))
def test_objects_of_0_1_0_come_out_as_they_went_in(kind: type, path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert json.dumps(earlier(to_json(from_json(kind, text)), json.loads(text)), indent=2) + "\n" == text


def test_the_identity_and_the_best_weights_of_0_1_0_come_out_as_they_went_in() -> None:
    text = EvaluationLayout(RUN.intervention).identity.read_text(encoding="utf-8")
    later = {"request": {}, "chats": {}, "consistency": False}
    assert to_json(from_json(Identity, text)) == {**json.loads(text), **later}
    gate = json.loads(RUN.evaluation("round-000002").gate.read_text(encoding="utf-8"))
    text = json.dumps({"round": 2, "asr": 0.5, "gate": gate})
    assert json.dumps(to_json(from_json(Best, text))) == text


@pytest.mark.parametrize("path", CHUNKS, ids=lambda path: path.stem)
def test_rows_of_0_1_0_come_out_as_they_went_in(path: Path) -> None:
    for line in path.read_text(encoding="utf-8").splitlines():
        rows = json.loads(line)
        assert json.dumps([earlier(asdict(from_dict(row)), row) for row in rows]) == line


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        *((SampleRow, path) for path in RUN.round_files().values()),
        *((SampleRow, RUN.heldout_file(stage)) for stage in Stage),
        *((EvalRow, RUN.evaluation(round_name(number)).rows) for number in (0, 2)),
    ],
    ids=lambda value: getattr(value, "stem", None),
)
def test_parquet_of_0_1_0_comes_out_as_it_went_in(kind: type, path: Path, tmp_path: Path) -> None:
    rows = read_rows(kind, path)
    assert rows
    write_rows(kind, rows, tmp_path / "again.parquet")
    then, now = pq.read_table(path), pq.read_table(tmp_path / "again.parquet")
    assert now.select(then.column_names).equals(then)
    later = [name for name in now.column_names if name not in then.column_names]
    of_evaluation = ["content", "reply", "style", "language"] if kind is EvalRow else []
    assert later == ["decision", "consistent", *of_evaluation, "turns"]
    assert all(now[name].null_count == len(rows) for name in later)


class Text(HTMLParser):
    """The page's text, scripts and styles left out."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text = ""
        self._tag = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._tag = tag

    def handle_data(self, data: str) -> None:
        if self._tag not in ("script", "style"):
            self.text += data


def test_a_run_of_0_1_0_has_a_report() -> None:
    evidence = read_evidence(RUN.path)
    assert [one.reward.total for one in evidence.metrics] == [1.25, 0.0]
    assert [one.shares.malformed for one in evidence.metrics] == [0.125, 0.375]
    assert [one.true_positive_rate for one in evidence.canaries] == [1.0, 1.0]
    assert {stage: len(groups_P) for stage, groups_P in evidence.heldout.items()} == dict.fromkeys(Stage, 2)
    assert [one.name for one in evidence.evaluations] == ["round-000000", "round-000002"]
    results = evidence.evaluations[-1].results
    asr, utility = results.overall("model", "asr"), results.overall("model", "utility")
    assert asr is not None and (asr.value, asr.n) == (0.5, 2)
    assert utility is None
    assert results.gate is not None and results.gate.checks[0].bar == 0.5
    assert evidence.summary is not None and evidence.summary.stages[Stage.BASE].total == -2.0
    assert evidence.intervention is not None
    assert [cell.refused for cell in evidence.intervention.cells] == [1.0, 0.0, 0.0, 0.0]
    text = Text(render(evidence)).text
    for shown in ("Gate: INCONCLUSIVE", "2 of 2", "versions 0-2", "[0.095, 0.905]", "+1.250", "measure base", "22.4 s"):
        assert shown in text


def test_a_run_of_0_1_0_has_a_status() -> None:
    shown = dict(facts(read_status(RUN.path)))
    assert (shown["state"], shown["round"]) == ("finished", "2 of 2")
    assert shown["reward"] == "total +0.00, risk +0.25, general -0.25"
    assert shown["verdicts"] == "ok 5, malformed 3"
    assert shown["update"] == "kl 0.018, logprob gap mean 1.2e-07, loss 0.00018"
    assert shown["evaluation"] == "after round 2: attack success 0.500, gate inconclusive"
    assert shown["held-out"] == "total, rapo - sft: +0.000 (n 2)"


def test_a_run_of_0_1_0_has_preferences_and_times(tmp_path: Path) -> None:
    assert export(RUN.path, tmp_path / "pairs.parquet") == (4, 4)
    assert pq.read_table(tmp_path / "pairs.parquet").column("round").to_pylist() == [1, 1, 2, 2]
    profile = read_profile(RUN.path)
    assert profile.completion_tokens == 48.1875
    assert profile.sync_seconds == pytest.approx(0.0334, abs=1e-4)


def test_groups_come_out_as_they_went_in(tmp_path: Path) -> None:
    rows = read_rows(SampleRow, RUN.round_file(1))
    write_groups(to_groups(rows), tmp_path / "again.parquet")
    again = read_rows(SampleRow, tmp_path / "again.parquet")
    assert again == [replace(row, tokens=0, logprob=None) for row in rows]  # token ids are not in the rows


def test_sinks_get_the_paths_that_are_on_disk() -> None:
    line = RUN.metrics.read_text(encoding="utf-8").splitlines()[0]
    assert flatten(to_json(read_metrics(RUN.metrics)[0])) == flatten(json.loads(line))


@pytest.fixture
def run(tmp_path: Path) -> RunLayout:
    run = RunLayout(tmp_path)
    run.metrics.write_bytes(RUN.metrics.read_bytes())
    return run


def change(path: Path, before: str, after: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert before in text
    path.write_text(text.replace(before, after), encoding="utf-8")


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('"kl": 0.018363086858652705, ', "", r"metrics.jsonl, line 2: cannot be read \(update.kl: Field required\)"),
        ('"malformed": 0.375', '"malformed": "0.375"', r"line 2: .*\(shares.malformed: Input should be a valid number"),
        ('"p50": 40, "p95": 96', '"p50": 40.5, "p95": 96', r"line 2: .*\(lengths.completion_tokens.p50: .*integer"),
        ('"round": 2', '"round": null', r"line 2: .*\(round: Input should be a valid integer"),
        ('{"round": 2', "{", r"line 2: cannot be read \(Expecting property name"),
    ],
)
def test_a_missing_or_mistyped_key_is_one_line(run: RunLayout, before: str, after: str, message: str) -> None:
    change(run.metrics, before, after)
    with pytest.raises(ReportError, match=message) as caught:
        read_metrics(run.metrics)
    assert len(str(caught.value).splitlines()) == 1


def test_keys_of_a_later_version_are_ignored(run: RunLayout) -> None:
    before = read_metrics(run.metrics)
    change(run.metrics, '"update": {', '"later": {"a": [1]}, "update": {"new": 1, ')
    assert read_metrics(run.metrics) == before


def test_a_torn_last_line_is_left_out_and_rounds_are_in_order(run: RunLayout) -> None:
    first, second = run.metrics.read_text(encoding="utf-8").splitlines()
    run.metrics.write_text(f"{second}\n{first}\n{second[:100]}", encoding="utf-8")
    assert [one.round for one in read_metrics(run.metrics)] == [1, 2]
    assert read_metrics(run.path / "absent.jsonl") == []


def test_lone_surrogates_of_an_endpoint_are_read() -> None:
    row = read_lines(VerdictRow, DATA / "verdicts-0.1.0.jsonl")[0]
    text = json.dumps(to_json(replace(row, detail="said \ud800")))
    assert from_json(VerdictRow, text).detail == "said ?"


def test_verdicts_that_failed_or_were_torn_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.jsonl"
    first, second = (DATA / "verdicts-0.1.0.jsonl").read_text(encoding="utf-8").splitlines()
    failed = first.replace('"id": "bread"', '"id": "oven"').replace('"risk": 1.0', '"risk": null')
    path.write_text(f"{first}\n{failed}\n{second[:50]}\n{second[:30]}}}", encoding="utf-8")
    assert list(read_verdicts(path)) == ["bread"]
    assert list(read_verdicts(path, "general")) == ["bread", "oven"]  # of answers alone
    path.write_text('{"id": "bread"}\n', encoding="utf-8")
    with pytest.raises(ReportError, match=r"verdicts.jsonl: cannot be read \(harmful: Field required\)"):
        read_verdicts(path)


def test_a_column_of_a_later_version_is_ignored_and_a_missing_one_named(tmp_path: Path) -> None:
    table = pq.read_table(RUN.round_file(1))
    path = tmp_path / "round-000001.parquet"
    pq.write_table(table.append_column("later", table.column("group")), path)
    assert read_rows(SampleRow, path) == read_rows(SampleRow, RUN.round_file(1))
    pq.write_table(table.drop_columns(["status"]), path)
    with pytest.raises(ReportError, match=r"round-000001.parquet: cannot be read \(.*'status'"):
        read_rows(SampleRow, path)


def test_evaluations_of_rounds_come_first(tmp_path: Path) -> None:
    run = RunLayout(tmp_path)
    for name in ("manual", "round-000010", "round-000002", "again", "round-2"):
        layout = run.evaluation(name)
        layout.path.mkdir(parents=True)
        layout.results.write_bytes(RUN.evaluation("round-000002").results.read_bytes())
    names = ["round-000002", "round-000010", "again", "manual", "round-2"]
    assert [one.name for one in read_evaluations(run)] == names
    assert read_object(Results, run.evaluation("again").results).model == "model"


@pytest.mark.parametrize("number", [0, 7, 999_999, 1_000_000])
def test_names_of_rounds_are_read_back(number: int) -> None:
    assert round_of(round_name(number)) == number


# --- no consumer outside storage/ knows a key or a path ---------------------------------------------------------------

CONSUMERS = (
    "rapo_ray/report/", "rapo_ray/monitoring/", "rapo_ray/evaluation/", "rapo_ray/orchestrator/", "rapo_ray/pipeline/",
    "rapo_ray/simulation/profile.py", "rapo_ray/serving/gates.py", "rapo_ray/status.py", "rapo_ray/preferences.py",
    "rapo_ray/judge.py", "rapo_ray/evaluate.py", "rapo_ray/intervene.py",
)  # fmt: skip
ALLOWED = {  # expression: why it is no stored record
    "matplotlib.colormaps['Blues']": "a table of matplotlib",
    "Sequence['Part']": "a type",
    "first['loc']": "an error of pydantic",
    "first['msg']": "an error of pydantic",
    "first['input']": "an error of pydantic",
    "row.get('completion')": "a row of the user's file",
    "os.environ.setdefault('HF_HUB_DISABLE_PROGRESS_BARS', '1')": "the environment",
    "os.environ.setdefault('TOKENIZERS_PARALLELISM', 'false')": "the environment",
}
SPELLED = {  # (module, name): why it is spelled there
    ("rapo_ray/models/published.py", "model"): "models are below storage",
    ("rapo_ray/models/embedded.py", "model"): "a temporary folder",
}
LAYOUT_NAMES = {path.name for layout in (RUN, RUN.evaluation("x")) for path in vars(layout).values()} - {RUN.path.name}


def is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def string_keys(tree: ast.Module) -> Iterator[str]:
    """Subscripts, and calls of get, pop and setdefault, whose key is a string constant."""
    for node in ast.walk(tree):
        called = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr
        if (isinstance(node, ast.Subscript) and is_text(node.slice)) or (
            called in ("get", "pop", "setdefault") and node.args and is_text(node.args[0])
        ):
            yield ast.unparse(node)


def spelled_paths(tree: ast.Module) -> Iterator[str]:
    """Names of the layout that a path is built with."""
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and is_text(node.right):
            yield from {node.right.value} & LAYOUT_NAMES


def modules() -> dict[str, ast.Module]:
    paths = sorted(path for package in ("rapo_ray", "actors") for path in (ROOT / package).rglob("*.py"))
    trees = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in paths}
    return {name: tree for name, tree in trees.items() if not name.startswith("rapo_ray/storage/")}


def test_no_consumer_indexes_a_record_by_a_string_key() -> None:
    used = {key: name for name, tree in modules().items() if name.startswith(CONSUMERS) for key in string_keys(tree)}
    assert {key: name for key, name in used.items() if key not in ALLOWED} == {}
    assert used.keys() == ALLOWED.keys(), "an exception that nothing needs"


def test_no_path_of_a_run_is_spelled_outside_the_layout() -> None:
    spelled = {(name, path) for name, tree in modules().items() for path in spelled_paths(tree)}
    assert spelled == SPELLED.keys()


@pytest.mark.parametrize(
    "code", ["line['round']", "a.b['c']['d'] = 1", "del x['y']", "line.get('round')", "x.pop('a', 0)", "f(g['h'])"]
)
def test_a_string_key_is_seen(code: str) -> None:
    assert list(string_keys(ast.parse(code)))
    assert not list(string_keys(ast.parse("x[0]\nx[name]\nx.round\nx.get(name)\nx[Phase.SYNC]\n{'a': 1}")))


def test_a_spelled_path_is_seen() -> None:
    assert list(spelled_paths(ast.parse("open(run / 'metrics.jsonl')"))) == ["metrics.jsonl"]
    assert list(spelled_paths(ast.parse("f(config.out / 'evaluations' / name)"))) == ["evaluations"]
    assert not list(spelled_paths(ast.parse("folder / 'config.json'")))
