"""A stopped run ends cleanly: nothing of it is left running."""

import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.e2e.conftest import REPOSITORY, environment, tiny_recipe, train_command

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_stopped_in_the_middle_of_a_round(tiny: Path, tmp_path: Path, sent: signal.Signals) -> None:
    recipe = tiny_recipe(tiny, tmp_path, rounds=200)
    process = subprocess.Popen(
        train_command(recipe),
        cwd=REPOSITORY,
        env=environment(),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 400
    metrics = tmp_path / "tiny" / "metrics.jsonl"
    while not metrics.exists():
        assert process.poll() is None, "the run ended before it could be stopped"
        assert time.monotonic() < deadline, "the first round never ended"
        time.sleep(0.1)
    family = psutil.Process(process.pid).children(recursive=True)
    assert any("RolloutActor" in " ".join(child.cmdline()) for child in family)
    process.send_signal(sent)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "the same command resumes" in errors
    assert "Traceback" not in errors
    _, alive = psutil.wait_procs(family, timeout=60)
    assert not alive, [child.cmdline() for child in alive]
