"""The engine's stage of the prepared GPU check on CPU with a tiny shape: completions, and the weights it held."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import REPOSITORY, environment

pytestmark = pytest.mark.e2e


def test_an_engine_generates_and_takes_weights_from_another_process(tmp_path: Path) -> None:
    out = tmp_path / "check.json"
    command = [sys.executable, "-m", "benchmarks.gpu_check", "--device", "cpu", "--shapes", "tiny", "--tokens", "48"]
    done = subprocess.run(
        [*command, "--stages", "engine", "--out", str(out)],
        cwd=REPOSITORY,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    engine = json.loads(out.read_text())["stages"]["engine"]
    assert engine["why_not"] is None, done.stdout + done.stderr
    assert [(item["sequences"], item["tokens"]) for item in engine["generated"]] == [(2, 16), (4, 32), (2, 16)]
    assert engine["weights"] == engine["weights_held"] == 24
    assert engine["weights_as_before"] == 0  # all were negated
    assert engine["weight_version"] == "2"
    assert engine["sync_awake"]["gib"] > 0
    assert engine["sleep"] == engine["sync_asleep"] == "not on CPU"
