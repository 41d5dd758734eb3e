"""A whole run on real components: two policy ranks under ZeRO-2, two rollout engines, a vLLM judge."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from rapo_ray.config.load import load_config
from tests.e2e.conftest import Cluster, FinishedRun, tiny_recipe, train

pytestmark = pytest.mark.e2e


def test_two_rounds_two_ranks_two_engines_and_a_vllm_judge(tiny: Path, finished: FinishedRun) -> None:
    run = finished.folder
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["round"] for line in lines] == [1, 2]
    assert [line["policy_version"] for line in lines] == [0, 1]
    assert all(line["judge"]["statuses"]["parse"] == 0 for line in lines)
    updates = [line["update"] for line in lines if line["update"]["optimizer_steps"]]
    assert updates, "no round made an optimizer step"
    assert all(update["logprob_gap_mean"] < 1e-3 for update in updates)
    assert all(update["kl"] is not None and update["entropy"] > 0 for update in updates)

    rows = pq.read_table(run / "rounds" / "round-000002.parquet").to_pylist()
    assert len(rows) == 16
    assert {row["engine"] for row in rows} == {"rollout-0", "rollout-1"}
    assert {row["policy_version"] for row in rows} == {1}
    assert {row["judge"] for row in rows if row["status"] == "ok"} == {f"vllm:{tiny / 'model'}"}
    assert all(row["prompt"] and row["completion"] for row in rows)

    summary = json.loads((run / "summary.json").read_text())
    assert set(summary["stages"]) == {"base", "sft", "rapo"}
    assert len(summary["delta"]["total"]["ci95"]) == 2
    assert load_config(str(run / "config.yaml")) == load_config(str(finished.recipe))
    assert yaml.safe_load((run / "config.yaml").read_text())["policy"]["ranks"] == 2
    _loads(run / "model")


def _loads(folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.dtype == torch.bfloat16
    tokens = AutoTokenizer.from_pretrained(folder)("How do I bake bread?", return_tensors="pt")
    assert model(**tokens).logits.isfinite().all()


def test_repeating_a_finished_run_changes_nothing(finished: FinishedRun) -> None:
    before = _times(finished.folder)
    again = train(finished.recipe)
    assert again.returncode == 0
    assert "finished already" in again.stdout
    assert _times(finished.folder) == before


def _times(run: Path) -> dict[Path, int]:
    """Modification time of each file except the lock and the config, which every start writes."""
    files = [path for path in run.rglob("*") if path.is_file() and path.name not in (".lock", "config.yaml")]
    return {path: path.stat().st_mtime_ns for path in files}


def test_nothing_is_left_in_shared_memory(finished: FinishedRun) -> None:
    assert not finished.left_in_shared_memory


def test_a_corrupt_checkpoint_is_named(finished: FinishedRun, cluster: Cluster, tmp_path: Path) -> None:
    run = shutil.copytree(finished.folder, tmp_path / "tiny")
    (run / "summary.json").unlink()  # as if it had been killed before its end
    path = run / "checkpoints" / "round-000002" / "policy" / "random-0.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    done = train(finished.recipe, f"out={tmp_path}", joining=cluster)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert "random-0.safetensors does not have the SHA-256 that was written" in last
    assert "Traceback" not in done.stderr


def test_synthesis_without_a_usable_trace_is_one_clear_error(tiny: Path, cluster: Cluster, tmp_path: Path) -> None:
    warmup = {"source": "synthesis", "recipe": "tiny:all", "path": None, "max_new_tokens": 32}
    marks = {"open": "<think>\n", "close": "\n</think>\n\n"}  # which the tiny model's template does not show
    recipe = tiny_recipe(tiny, tmp_path, warmup=warmup, model={"thinking": marks})
    done = train(recipe, joining=cluster)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("error: synthesis: none of 2 prompts")
