"""A vLLM engine and its step loop: requests while it steps, pauses, refused and cancelled requests, its failure."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rapo_ray.engines.environment import engine_environment
from tests.e2e.conftest import REPOSITORY, environment
from tests.e2e.engine_child import LONG, REQUESTS, SAMPLED

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def report(tiny: Path) -> dict[str, Any]:
    """Behaviour of the engine in its own process, since vLLM changes its process's environment."""
    command = [sys.executable, "-m", "tests.e2e.engine_child", str(tiny / "model")]
    env = environment(**engine_environment("cpu", 1, 1))
    done = subprocess.run(command, env=env, cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    parsed: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return parsed


def test_requests_that_arrive_one_by_one_while_it_steps_are_batched(report: dict[str, Any]) -> None:
    assert report["answered"] == REQUESTS
    assert report["steps"] <= REQUESTS / 2  # it would be a step each if `submit` had to wait for one


def test_a_pause_keeps_requests_in_flight(report: dict[str, Any]) -> None:
    assert report["while paused"] == [0, False, False]
    assert report["afterwards"] == [1, LONG]


def test_a_request_that_is_refused_or_cancelled_leaves_the_others_alone(report: dict[str, Any]) -> None:
    assert report["too long"].startswith("EngineError: vLLM refuses the request: ")
    assert report["cancelled"] is True
    assert report["continues"] == 2


def test_texts_are_those_of_vllms_own_detokenizer(report: dict[str, Any]) -> None:
    texts = report["texts"]
    assert report["decoded in steps"] == ""
    assert texts["other"] == []
    assert texts["same tokens"] > SAMPLED  # the two ways compared the same completions
    assert texts["cut within a character"] > 20
    assert texts["whole characters"] > 10
    assert texts["stopped"] > 5


def test_a_label_is_one_of_those_given_with_a_probability_of_each(report: dict[str, Any]) -> None:
    assert report["label"] in (["0", 2], ["1", 2])


def test_a_stopped_engine_fails_pending_and_later_requests(report: dict[str, Any]) -> None:
    assert report["broken"] == "EngineError: the vLLM engine stopped: RuntimeError: broken"
    assert report["afterwards refused"] == "the vLLM engine stopped: RuntimeError: broken"
