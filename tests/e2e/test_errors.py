"""Invalid inputs: one clear line, a non-zero exit status, no traceback."""

from pathlib import Path

import pytest

from tests.e2e.conftest import tiny_recipe, train, write_jsonl

pytestmark = pytest.mark.e2e


def fails(recipe: Path, *overrides: str) -> str:
    """Run a recipe that must fail and return its one error line."""
    done = train(recipe, *overrides)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_unknown_key(tiny: Path, tmp_path: Path) -> None:
    line = fails(tiny_recipe(tiny, tmp_path), "policy.lerning_rate=1")
    assert "unknown key `policy.lerning_rate` (value 1)" in line
    assert "override" in line


def test_a_mistake_in_the_model_costs_no_name(tiny: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(tiny, tmp_path)
    assert "no/such/model" in fails(recipe, "model.path=/no/such/model")
    assert "nothing in its chat template shows how it thinks" in fails(recipe, "warmup.source=none", "warmup.path=null")
    assert not (tmp_path / "tiny").exists()


def test_missing_data_file(tiny: Path, tmp_path: Path) -> None:
    line = fails(tiny_recipe(tiny, tmp_path), "data.sources.tiny.path=/no/such/prompts.jsonl")
    assert "/no/such/prompts.jsonl" in line


def test_wrong_column(tiny: Path, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "wrong.jsonl", [{"question": "How do I bake bread?", "harmful": False}])
    line = fails(tiny_recipe(tiny, tmp_path), f"data.sources.tiny.path={tmp_path / 'wrong.jsonl'}")
    assert "text" in line
    assert "question" in line
    assert "wrong.jsonl" in line


def test_all_rows_bad(tiny: Path, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "bad.jsonl", [{"text": None, "harmful": False}, {"text": "", "harmful": True}])
    line = fails(tiny_recipe(tiny, tmp_path), f"data.sources.tiny.path={tmp_path / 'bad.jsonl'}")
    assert "bad.jsonl" in line
    assert "2" in line


def test_more_gpus_than_there_are(tiny: Path, tmp_path: Path) -> None:
    line = fails(tiny_recipe(tiny, tmp_path), "cluster.device=gpu", "rollout.engines=64")
    assert "the run needs 66 GPUs and the cluster has" in line
