"""A stopped run exits cleanly: none of its processes is left."""

import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.e2e.conftest import REPOSITORY, environment, tiny_recipe, train_command

pytestmark = pytest.mark.e2e


@pytest.mark.fault(16)
def test_stopped_during_an_evaluation(tiny: Path, tmp_path: Path) -> None:
    _stop_once(tiny_recipe(tiny, tmp_path), tmp_path / "tiny" / "heldout" / "base.parquet", signal.SIGTERM)


@pytest.mark.fault(16)
def test_stopped_in_a_round_after_a_warm_up(tiny: Path, tmp_path: Path) -> None:
    """Ray Train leaves a handler of its own for Ctrl-C where it may."""
    _stop_once(tiny_recipe(tiny, tmp_path, rounds=200), tmp_path / "tiny" / "metrics.jsonl", signal.SIGINT)


def _stop_once(recipe: Path, file: Path, sent: signal.Signals) -> None:
    """Send a signal to a run as soon as a file exists, and check that it exits cleanly."""
    process = subprocess.Popen(
        train_command(recipe),
        cwd=REPOSITORY,
        env=environment(),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    deadline = time.monotonic() + 400
    while not file.exists():
        assert process.poll() is None, "the run ended before it could be stopped"
        assert time.monotonic() < deadline, f"{file} never appeared"
        time.sleep(0.1)
    children = psutil.Process(process.pid).children(recursive=True)
    assert any("RolloutActor" in " ".join(child.cmdline()) for child in children)
    process.send_signal(sent)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "the same command resumes" in errors
    assert "Traceback" not in errors
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive, [child.cmdline() for child in alive]
