"""Evaluations of a run without engines: the best weights, and a folder that belongs to one evaluation."""

from dataclasses import replace
from pathlib import Path

import pytest

from rapo_ray.config import RunConfig
from rapo_ray.config.evaluation import GatesConfig
from rapo_ray.config.load import load_config
from rapo_ray.errors import ConfigError, ReportError
from rapo_ray.evaluation.results import Evaluated, Results, summarise
from rapo_ray.models.chat import PLAIN, ChatFormat
from rapo_ray.pipeline.evaluate import Identity, evaluate_models, same_evaluation
from rapo_ray.pipeline.evaluations import RunEvaluations, is_due
from rapo_ray.pipeline.intervene import intervene
from rapo_ray.pipeline.swaps import swap_traces
from rapo_ray.pipeline.target import Target
from rapo_ray.storage.layout import EvaluationLayout, RunLayout
from rapo_ray.storage.reader import read_object, read_swaps
from rapo_ray.storage.records import Best
from tests.report_data import DECODING, JUDGE, row
from tests.unit.test_swaps import ScriptedJudge, ScriptedWriter, mixed

pytestmark = pytest.mark.unit


class FakePolicy:
    """A policy whose weights are a text."""

    weights = ""

    def export(self, folder: Path, dtype: str) -> None:
        folder.mkdir()
        (folder / "model.safetensors").write_text(self.weights)


def results_of(skill: int, bar: float) -> Results:
    """An evaluation whose attack success falls with the skill (0..9)."""
    rows = [row(number, skill, "m") for number in range(300)]
    model = Evaluated(name="model", id="m", revision=None, rows=rows, expected=len(rows))
    return summarise([model], DECODING, JUDGE, GatesConfig(asr=bar), 0)


def test_the_best_weights_pass_their_gate_with_the_least_attack_success(tmp_path: Path) -> None:
    evaluations = RunEvaluations(load_config("quickstart"), tmp_path, PLAIN)
    policy, run = FakePolicy(), RunLayout(tmp_path)

    def offer(number: int, results: Results) -> bool:
        policy.weights = f"round {number}"
        return evaluations.keep_best(number, results, policy, lambda folder, version: None)

    assert not offer(1, results_of(3, 0.1))
    assert not offer(1, replace(results_of(6, 0.9), gate=None))
    assert not run.best.exists()
    assert offer(2, results_of(6, 0.9))
    assert not offer(3, results_of(6, 0.9))
    assert not offer(4, results_of(3, 0.9))
    assert offer(5, results_of(8, 0.9))
    best = read_object(Best, run.best_record)
    assert (best.round, best.gate.passed) == (5, True)
    assert best.asr < 0.2
    assert (run.best / "model.safetensors").read_text() == "round 5"
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_rounds_that_are_due() -> None:
    def due(*overrides: str) -> list[int]:
        config = load_config("quickstart", ["rounds=5", "checkpoint.every=1", *overrides])
        return [number for number in range(1, 6) if is_due(config, number)]

    assert due("evaluation.every=2") == [2, 4, 5]
    assert due("evaluation.every=0") == []
    assert due("evaluation.every=0", "gates.asr=0.5") == [5]


def same(folder: Path, config: RunConfig, *names: str) -> dict[str, str]:
    same_evaluation(folder, config, [Target(name, f"models/{name}", None, "abc") for name in names])
    return read_object(Identity, EvaluationLayout(folder).identity).models


def test_a_folder_belongs_to_one_evaluation_and_may_get_models(tmp_path: Path) -> None:
    config = load_config("quickstart")
    assert same(tmp_path, config, "model") == {"model": "models/model@abc"}
    both = {"model": "models/model@abc", "against": "models/against@abc"}
    assert same(tmp_path, config, "against") == both
    assert same(tmp_path, config, "model") == both
    EvaluationLayout(tmp_path).rows_of("model").write_text("")
    with pytest.raises(ConfigError, match=r"other settings \(changed: decoding, judges\): give another --output"):
        same(tmp_path, load_config("quickstart", ["seed=7", "judge.general.backend=rules"]), "model")
    with pytest.raises(ConfigError, match=r"\(changed: models.model\)"):
        same_evaluation(tmp_path, config, [Target("model", "models/model", None, "abd")])
    with pytest.raises(ConfigError, match=r"\(changed: chat format of model\)"):
        other = ChatFormat(opening="[THINK]", closing="[/THINK]")
        same_evaluation(tmp_path, config, [Target("model", "models/model", None, "abc", chat=other)])
    EvaluationLayout(tmp_path).identity.write_text("{}")
    with pytest.raises(ReportError, match=r"evaluation.json: cannot be read \(models: Field required\)"):
        same(tmp_path, config, "model")


def test_a_folder_belongs_to_content_and_not_to_names_or_machines(tmp_path: Path) -> None:
    http = ["judge.general={backend: http, model: m, url: 'https://host/v1'}"]
    config = load_config("quickstart", http)
    same(tmp_path, config, "model")
    EvaluationLayout(tmp_path).rows_of("model").write_text("")
    same_evaluation(tmp_path, config, [Target("model", "moved/model", None, "abc")])
    for setting in ("judge.general.timeout=7", "judge.general.retries=1", "judge.risk.actors=2", "judge.cache=false"):
        same(tmp_path, load_config("quickstart", [*http, setting]), "model")
    same(tmp_path, load_config("quickstart", [*http, "data.sources.mine={kind: file, path: x.csv}"]), "model")
    for setting in ("judge.general.model=n", "judge.general.url=https://other/v1", "judge.consistency=false"):
        with pytest.raises(ConfigError, match=r"other settings \(changed: (consistency, )?judges\)"):
            same(tmp_path, load_config("quickstart", [*http, setting]), "model")
    with pytest.raises(ConfigError, match=r"changed: models.model"):  # an endpoint's content is known by its address
        endpoint = Target("model", "m at https://a/v1", None, None)
        (tmp_path / "e").mkdir()
        same_evaluation(tmp_path / "e", config, [endpoint])
        (tmp_path / "e" / "model.jsonl").write_text("")
        same_evaluation(tmp_path / "e", config, [replace(endpoint, id="m at https://b/v1")])


def test_a_folder_has_tries_of_one_kind(tmp_path: Path) -> None:
    config = load_config("quickstart", ["evaluation.tries=4"])
    same(tmp_path, config, "model")
    EvaluationLayout(tmp_path).rows_of("model").write_text("")
    same(tmp_path, load_config("quickstart", ["evaluation.tries=4", "data.heldout_families=[language, hijack, format, "
                                              "hypothetical]"]), "model")  # fmt: skip
    for setting in ("evaluation.tries=8", "evaluation.longest_chain=1", "data.heldout_families=[persona]"):
        with pytest.raises(ConfigError, match=r"other settings \(changed: effort\)"):
            same(tmp_path, load_config("quickstart", ["evaluation.tries=4", setting]), "model")


def test_a_model_on_our_engines_needs_a_temperature(tmp_path: Path) -> None:
    config = load_config("quickstart", ["evaluation.temperature=null"])
    target = Target("model", "models/model", tmp_path, "abc")
    with pytest.raises(ConfigError, match=r"evaluation.temperature=null is for endpoints alone"):
        evaluate_models(config, [target], tmp_path / "evaluation")
    with pytest.raises(ConfigError, match=r"evaluation.temperature=null is for endpoints alone"):
        intervene(config, target, tmp_path / "study")
    assert list(tmp_path.iterdir()) == []


def test_an_endpoint_takes_no_gate_on_forced_traces(tmp_path: Path) -> None:
    config = load_config("quickstart", ["gates.trace_follows=0.5"])
    target = Target("model", "m at http://127.0.0.1:1", None, None, "http://127.0.0.1:1", "m")
    with pytest.raises(ConfigError, match=r"gates.trace_follows=0.5 needs the model itself: an endpoint takes no"):
        evaluate_models(config, [target], tmp_path / "evaluation")
    assert list(tmp_path.iterdir()) == []


def test_swaps_are_on_disk_and_zero_makes_none(tmp_path: Path) -> None:
    some, writer, judge = mixed(6), ScriptedWriter(obeys=True), ScriptedJudge()
    path = EvaluationLayout(tmp_path).swaps_of("model")
    assert swap_traces(load_config("quickstart", ["evaluation.trace_swaps=0"]), some, writer, judge, path) == []
    assert not path.exists() and not writer.batches
    rows = swap_traces(load_config("quickstart", ["evaluation.trace_swaps=4"]), some, writer, judge, path)
    assert len(rows) == 12 and read_swaps(path) == rows
    assert (
        swap_traces(load_config("quickstart", ["evaluation.trace_swaps=6"]), some, writer, judge, path)[:3] == rows[:3]
    )
    assert (writer.batches, len(writer.drafts)) == (2, 18)  # those of the last two prompts


def test_a_mistake_before_the_first_row_costs_no_folder(tmp_path: Path) -> None:
    same(tmp_path, load_config("quickstart"), "model")
    corrected = load_config("quickstart", ["evaluation.request.extra_body.reasoning_effort=low", "seed=7"])
    assert same(tmp_path, corrected, "other") == {"other": "models/other@abc"}
    EvaluationLayout(tmp_path).rows_of("other").write_text("")
    assert same(tmp_path, corrected, "other") == {"other": "models/other@abc"}
    with pytest.raises(ConfigError, match=r"\(changed: request\)"):
        same(tmp_path, load_config("quickstart", ["seed=7"]), "other")


def test_the_name_of_the_limit_is_no_part_of_an_evaluation(tmp_path: Path) -> None:
    same(tmp_path, load_config("quickstart"), "model")
    EvaluationLayout(tmp_path).rows_of("model").write_text("")
    same(tmp_path, load_config("quickstart", ["evaluation.request.limit_field=max_completion_tokens"]), "model")
