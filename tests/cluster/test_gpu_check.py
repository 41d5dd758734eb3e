"""The prepared GPU check on CPU with a tiny shape: it runs where Ray, DeepSpeed, vLLM and pydantic are missing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.cluster

BLOCKED = ("ray", "deepspeed", "vllm", "pydantic", "openrlhf", "rich")


def test_the_check_runs_on_torch_and_transformers_alone(tmp_path: Path) -> None:
    out = tmp_path / "check.json"
    code = (
        f"import sys\nfor name in {BLOCKED!r}: sys.modules[name] = None\n"
        "from benchmarks.gpu_check import main\n"
        f"sys.exit(main(['--device', 'cpu', '--shapes', 'tiny', '--tokens', '48', '--out', {str(out)!r}]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    content = json.loads(out.read_text())
    assert [(case["way"], case["lora"], case["why_not"]) for case in content["cases"]] == [
        ("ours", False, None),
        ("padded", False, None),
        ("ours", True, None),
    ]
    assert content["cases"][0]["loss"] == pytest.approx(content["cases"][1]["loss"], abs=0.02)  # in bf16
    agreement = content["agreement"]
    assert agreement["loss"] < 1e-5
    assert agreement["gradient"] < 1e-4 * max(1.0, agreement["largest_gradient"])
