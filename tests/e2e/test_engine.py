"""A vLLM engine and its step loop: what is asked while it steps, pauses, requests that it refuses, its end."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rapo_ray.engines.environment import engine_environment
from tests.e2e.conftest import REPOSITORY, environment
from tests.e2e.engine_child import ASKED, LONG

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def found(tiny: Path) -> dict[str, Any]:
    """What the engine did, in a process of its own: vLLM changes the environment of the one that it is in."""
    command = [sys.executable, "-m", "tests.e2e.engine_child", str(tiny / "model")]
    env = environment(**engine_environment("cpu", 1, 1))
    done = subprocess.run(command, env=env, cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    answers: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answers


def test_what_is_asked_one_by_one_while_it_steps_is_batched(found: dict[str, Any]) -> None:
    assert found["answered"] == ASKED
    assert found["steps"] <= ASKED / 2  # a step each where whoever asks has to wait for one


def test_a_pause_keeps_what_is_under_way(found: dict[str, Any]) -> None:
    assert found["while paused"] == [0, False, False]
    assert found["afterwards"] == [1, LONG]


def test_a_request_that_is_refused_or_cancelled_leaves_the_others_alone(found: dict[str, Any]) -> None:
    assert found["too long"].startswith("EngineError: vLLM refuses the request: ")
    assert found["cancelled"] is True
    assert found["goes on"] == 2


def test_a_stopped_engine_says_so_to_all_who_asked_and_who_ask_later(found: dict[str, Any]) -> None:
    assert found["broken"] == "EngineError: the vLLM engine stopped: RuntimeError: broken"
    assert found["afterwards refused"] == "the vLLM engine stopped: RuntimeError: broken"
