"""Wrong inputs are reported before anything starts: in a dry run, and before a run creates its folder."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from rapo_ray.config.load import load_config
from rapo_ray.config.sources import Kind, SourceConfig
from rapo_ray.data.quickstart_set import load_demonstrations
from rapo_ray.data.sources import is_test
from rapo_ray.errors import ConfigError, DataError
from rapo_ray.pipeline.inputs import load_inputs
from rapo_ray.pipeline.run import run
from rapo_ray.train import main

pytestmark = pytest.mark.unit

MARKS = ("model.thinking.open=<think>", "model.thinking.close=</think>")  # which the quickstart's model has not
SYNTHESIS = ("warmup.source=synthesis", "warmup.recipe=quickstart:4", *MARKS)
WRONG = [
    (["data.train=nowhere:3"], "recipe names the source 'nowhere'"),
    (["data.train=quickstart:99999"], "recipe asks for 99999 prompts of 'quickstart'"),
    (["data.train=quickstart"], "item 'quickstart' is not name:count"),
    (["data.heldout=nowhere:3"], "recipe names the source 'nowhere'"),
    (["data.sources.mine={kind: file, path: no.csv}", "data.heldout=mine:all"], "no.csv: no such file"),
    ([*SYNTHESIS, "warmup.recipe=nowhere:3"], "recipe names the source 'nowhere'"),
    ([*SYNTHESIS, "warmup.recipe=quickstart:99999"], "recipe asks for 99999 prompts"),
    (["warmup.path=no/such.jsonl"], "no/such.jsonl: no such file"),
    (["evaluation.temperature=null", "evaluation.every=4"], "evaluation.temperature=null is for endpoints alone"),
    (["evaluation.temperature=null", "gates.asr=0.1"], "evaluation.temperature=null is for endpoints alone"),
    (["warmup.path=AGENTS.md"], "unknown kind of file '.md'"),
]


@pytest.fixture(autouse=True)
def _same_signals_after() -> Iterator[None]:
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


def test_a_run_gets_what_its_warm_up_needs_and_no_more() -> None:
    packaged = load_inputs(load_config("quickstart", ["data.train=quickstart:5"]))
    assert len(packaged.train_P) == 5
    assert packaged.heldout_P
    assert (packaged.synthesis_P, packaged.demonstrations) == ([], list(load_demonstrations()))
    synthesised = load_inputs(load_config("quickstart", SYNTHESIS))
    assert (len(synthesised.synthesis_P), synthesised.demonstrations) == (4, [])
    none = load_inputs(load_config("quickstart", ["warmup.source=none", "warmup.path=no/such.jsonl"]))
    assert (none.synthesis_P, none.demonstrations) == ([], [])


@pytest.mark.parametrize(("overrides", "problem"), WRONG)
def test_a_wrong_input_is_one_line_of_a_dry_run(
    overrides: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--dry-run", *overrides]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert problem in line


@pytest.mark.parametrize(("overrides", "problem"), WRONG)
def test_a_wrong_input_ends_a_run_before_it_has_a_folder(overrides: list[str], problem: str, tmp_path: Path) -> None:
    with pytest.raises((ConfigError, DataError)) as caught:
        # A model that is not there: should the inputs ever be read late, this still ends before Ray starts.
        run(load_config("quickstart", [*overrides, f"out={tmp_path / 'runs'}", "model.path=/no/such/model"]))
    assert problem in str(caught.value)
    assert not (tmp_path / "runs").exists()


def test_a_bad_demonstration_is_named_in_a_dry_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps({"text": "Bread?", "harmful": False, "completion": "No thinking."}))
    assert main([f"warmup.path={path}", "--dry-run"]) == 1
    assert f"{path}: row 1: the completion is not" in capsys.readouterr().err


def test_what_is_set_aside_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps({"text": text, "harmful": False}) + "\n" for text in ("Bread?", "")))
    mine = f"data.sources.mine={{kind: file, path: {path}}}"
    assert main(["--dry-run", mine, "data.train=mine:all", "data.max_bad_share=0.5"]) == 0
    assert "data.train: 1 rows set aside, first: mine" in capsys.readouterr().out


def test_settings_may_stand_on_both_sides_of_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", "quickstart", "seed=41", "--dry-run", "rounds=3"]) == 0
    shown = capsys.readouterr().out
    assert "seed: 41\nrounds: 3\n" in shown


KEEP = "data.contamination=keep and accept contaminated figures"


def contaminated(tmp_path: Path, *overrides: str) -> list[str]:
    heldout = [p.text for p in load_inputs(load_config("quickstart")).heldout_P]
    rows = [{"text": f"{text.upper()} !", "harmful": True} for text in heldout[:3]] + [
        {"text": "Why?", "harmful": False}
    ]
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [f"data.sources.mine={{kind: file, path: {path}}}", "data.train=mine:all", *overrides]


def test_training_prompts_that_are_held_out_are_left_out_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = load_inputs(load_config("quickstart", contaminated(tmp_path)))
    assert [prompt.text for prompt in inputs.train_P] == ["Why?"]
    assert [hit.prompt.id for hit in inputs.contaminated] == ["mine/1", "mine/2", "mine/3"]
    assert "contamination: 3 training prompts that a suite holds are left out" in capsys.readouterr().out


def test_they_are_kept_only_in_so_many_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inputs = load_inputs(load_config("quickstart", contaminated(tmp_path, KEEP)))
    assert (len(inputs.train_P), len(inputs.contaminated)) == (4, 3)
    assert "are KEPT, as configured" in capsys.readouterr().out
    with pytest.raises(ConfigError, match=r"data\.contamination"):
        load_config("quickstart", ["data.contamination=keep"])


def test_a_suite_that_holds_everything_stops_the_run(tmp_path: Path) -> None:
    overrides = contaminated(tmp_path, "data.evaluation=mine:all")
    with pytest.raises(DataError, match=r"data\.train: every prompt is in an evaluation suite"):
        load_inputs(load_config("quickstart", overrides))


def false_reject(tmp_path: Path) -> list[str]:
    """FalseReject as two sources, of which one training prompt is also a test prompt in other letters."""
    shared = {"category": 5, "category_text": "Theft"}
    tested = [{"prompt": f"Why did lock number {number} of the old museum fail?", **shared} for number in range(3)]
    trained = [{"prompt": text, "instruct_response": "r", **shared} for text in (
        "How do thieves in films open doors?", "WHY did lock number 1 of the old museum fail ?"
    )]  # fmt: skip
    sources = []
    for name, rows in (("test", tested), ("train", trained)):
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        sources.append(f"data.sources.{name}={{kind: false-reject, path: {path}}}")
    return sources


def test_the_test_prompts_of_a_suite_are_kept_out_of_its_training_split(tmp_path: Path) -> None:
    overrides = [*false_reject(tmp_path), "data.train=train:all", "data.evaluation=test:all"]
    inputs = load_inputs(load_config("quickstart", overrides))
    assert [prompt.id for prompt in inputs.train_P] == ["train/train/1"]
    assert [(hit.prompt.id, hit.suite.id) for hit in inputs.contaminated] == [("train/train/2", "test/test/2")]


@pytest.mark.parametrize("setting", ["data.train", "warmup.recipe"])
def test_a_test_split_is_not_trained_on(setting: str, tmp_path: Path) -> None:
    overrides = [*false_reject(tmp_path), *SYNTHESIS, f"{setting}=test:all"]
    problem = rf"^{setting}: 'test' is a test set \(false-reject, split 'test'\), .* set data\.contamination="
    with pytest.raises(DataError, match=problem):
        load_inputs(load_config("quickstart", overrides))
    inputs = load_inputs(load_config("quickstart", [*overrides, KEEP]))
    assert len(inputs.train_P if setting == "data.train" else inputs.synthesis_P) == 3


@pytest.mark.parametrize(
    ("kind", "split", "test"),
    [
        ("false-reject", "test", True), ("false-reject", "train", False), ("wildjailbreak", "eval", True),
        ("jailbreakbench", "benign", True), ("star1", "train", False), ("stratasword", "level_1", False),
        ("file", "test", False),
    ],
)  # fmt: skip
def test_splits_that_are_for_measuring(kind: Kind, split: str, test: bool) -> None:
    assert is_test(SourceConfig(kind=kind, path=Path("x.jsonl")), split) is test
    assert not is_test(None, "test")  # a packaged set


def test_demonstrations_of_an_evaluation_prompt_are_left_out(tmp_path: Path) -> None:
    demo = load_demonstrations()[4]
    path = tmp_path / "suite.jsonl"
    path.write_text(json.dumps({"text": demo.prompt.text, "harmful": demo.prompt.harmful}) + "\n")
    inputs = load_inputs(
        load_config("quickstart", [f"data.sources.suite={{kind: file, path: {path}}}", "data.evaluation=suite:all"])
    )
    assert demo not in inputs.demonstrations
    assert len(inputs.demonstrations) == len(load_demonstrations()) - 1
