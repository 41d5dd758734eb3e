"""The prepared GPU check on CPU with a tiny shape: what stages record, and what it says of those that cannot run."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[2]
BLOCKED = ("ray", "deepspeed", "vllm", "pydantic", "openrlhf", "rich")
WITHOUT = f"""
import sys
from importlib.machinery import PathFinder

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {BLOCKED!r} else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Without
"""
WRONG_LABELS = """
from dataclasses import replace
from rapo_ray.trainer import model
right = model.collate
model.collate = lambda batch: replace(right(batch), labels=right(batch).labels.roll(1))
"""
CRASHES = """
import os, sys
if "--models" in sys.orig_argv:
    os.write(2, b"one\\nbus error\\n")
    os._exit(7)
"""


def check(tmp_path: Path, *arguments: str, at_start: str = "") -> tuple[int, str, dict[str, Any]]:
    """Exit status, output and file of a check; `at_start` runs first in each of its processes."""
    (tmp_path / "sitecustomize.py").write_text(at_start)
    out = tmp_path / "check.json"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu_check", "--out", str(out), *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert out.exists(), done.stderr
    return done.returncode, done.stdout + done.stderr, json.loads(out.read_text())


TINY = ("--device", "cpu", "--shapes", "tiny", "--tokens", "48")


def test_the_core_runs_on_torch_and_transformers_alone(tmp_path: Path) -> None:
    code, printed, content = check(tmp_path, *TINY, "32", at_start=WITHOUT)
    assert code == 0, printed
    stages = content["stages"]
    assert stages["core"]["why_not"] is None, printed
    ours, usual = ("packed", "one by one"), ("padded", "padded one by one")
    assert [(case["tokens"], case["way"], case["lora"]) for case in stages["core"]["cases"]] == [
        *((48, way, False) for way in (*ours, *usual)),
        *((32, way, False) for way in (*ours, *usual)),
        *((48, way, True) for way in ours),
    ]
    for case in stages["core"]["cases"]:
        assert case["why_not"] is None
        assert case["tokens_per_second"] > 0
        assert case["share_of_matmul_rate"] > 0
        assert (case["planned_gib"] or 0) > 0 if case["way"] in ours else case["planned_gib"] is None
        same = [other["loss"] for other in stages["core"]["cases"] if other["tokens"] == case["tokens"]]
        assert case["loss"] == pytest.approx(same[0], abs=0.02)  # in bf16
    agreement = stages["core"]["agreement"]
    assert [(item["dtype"], item["way"]) for item in agreement] == [
        (dtype, way) for dtype in ("float32", "bfloat16") for way in ours
    ]
    assert all(item["within"] for item in agreement)
    assert all(item["gradient_difference"] < 1e-4 for item in agreement if item["dtype"] == "float32")
    assert stages["policy"]["why_not"] == "not run: deepspeed and openrlhf and pydantic not installed"
    assert stages["engine"]["why_not"] == "not run: vllm not installed"
    assert "torch" in content["packages"]
    assert not content["packages"].keys() & set(BLOCKED)
    assert content["command"].startswith("python -m benchmarks.gpu_check --out ")


def test_a_policy_rank_updates_and_exports(tmp_path: Path) -> None:
    code, printed, content = check(tmp_path, *TINY, "--stages", "policy")
    assert code == 0, printed
    policy = content["stages"]["policy"]
    assert policy["why_not"] is None, printed
    assert policy["first_gap"] == 0  # the policy is still the reference
    assert policy["second_gap"] > 0
    assert policy["agrees"]
    assert policy["action_tokens"] == sum((48 - 12) * (4 + sample) // 7 for sample in range(4))
    assert policy["planned_gib"] > 0
    assert policy["freed_gib"] == "not on CPU"
    assert policy["tokens_per_second"] > 0
    assert policy["exported"] == 24  # of two layers: 7 matrices and 4 norms each, the embedding, the last norm
    assert policy["matrices"] == policy["changed_matrices"] == 15


def test_wrong_log_probs_fail_the_check(tmp_path: Path) -> None:
    code, printed, content = check(tmp_path, *TINY, "--stages", "core", at_start=WRONG_LABELS)
    assert code == 1, printed
    assert [item["within"] for item in content["stages"]["core"]["agreement"]] == [False] * 4


@pytest.mark.parametrize(
    ("arguments", "at_start", "why_not"),
    [
        ((), "", "not run: no GPU"),
        ((*TINY, "--seconds", "0.1"), "", "stopped: its 0 s were over"),
        (TINY, CRASHES, "failed: exit status 7: bus error"),
    ],
)
def test_a_stage_says_why_it_did_not_run(
    tmp_path: Path, arguments: tuple[str, ...], at_start: str, why_not: str
) -> None:
    code, printed, content = check(tmp_path, *arguments, "--stages", "core", at_start=at_start)
    assert code == 1, printed
    assert content["stages"]["core"]["why_not"] == why_not
    assert f"core: {why_not}\n" in printed
