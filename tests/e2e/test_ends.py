"""A stopped run ends cleanly: nothing of it is left running."""

import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.e2e.conftest import REPOSITORY, environment, tiny_recipe, train_command

pytestmark = pytest.mark.e2e


@pytest.mark.fault(16)
def test_stopped_while_it_measures(tiny: Path, tmp_path: Path) -> None:
    _stops(tiny_recipe(tiny, tmp_path), tmp_path / "tiny" / "heldout" / "base.parquet", signal.SIGINT)


@pytest.mark.fault(16)
def test_stopped_in_a_round(tiny: Path, warmed: dict[str, Any], tmp_path: Path) -> None:
    _stops(tiny_recipe(tiny, tmp_path, rounds=200, **warmed), tmp_path / "tiny" / "metrics.jsonl", signal.SIGTERM)


def _stops(recipe: Path, once_there_is: Path, sent: signal.Signals) -> None:
    process = subprocess.Popen(
        train_command(recipe),
        cwd=REPOSITORY,
        env=environment(),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    deadline = time.monotonic() + 400
    while not once_there_is.exists():
        assert process.poll() is None, "the run ended before it could be stopped"
        assert time.monotonic() < deadline, f"{once_there_is} never came"
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
