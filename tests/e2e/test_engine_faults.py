"""Engines that are killed while callers stream, and an endpoint of two engines that withholds its thinking."""

import json
import time
from collections import Counter
from collections.abc import Iterator

import httpx
import pytest

from tests.e2e.endpoint import Endpoint, engines_of, publish, serving, wait_until_healthy
from tests.e2e.load import CHAT, Load, error_of, post

GOOD = {"whole", "streamed"}


@pytest.mark.e2e
@pytest.mark.fault(17)
def test_a_killed_engine_cuts_streams_with_an_error_and_comes_back(endpoint: Endpoint) -> None:
    body = {**CHAT, "max_tokens": 120, "temperature": 1.0, "stream": True}
    with Load(endpoint, callers=6, max_tokens=120) as load:  # so that a stream takes its time
        _wait_for(load, 6)
        (engine,) = engines_of(endpoint)
        with httpx.stream(
            "POST", f"{endpoint.url}/chat/completions", json=body, headers=endpoint.headers(), timeout=60
        ) as answer:
            lines = answer.iter_lines()
            first = next(lines)
            engine.kill()
            rest = [line for line in lines if line]
        killed = len(load.answers)
        refused = _until_503(endpoint)
        _wait_for(load, killed + 6)  # the requests in flight, and the next ones
    assert first.startswith("data: {") and "data: [DONE]" not in rest
    assert json.loads(rest[-1].removeprefix("data: "))["error"]["code"] == 503
    error_of(refused)
    assert int(refused.headers["retry-after"]) >= 1
    assert {ending for ending, _ in load.answers} <= {"error event", "503", *GOOD}
    wait_until_healthy(endpoint, 300)
    assert post(endpoint).status_code == 200


def _until_503(at: Endpoint) -> httpx.Response:
    deadline = time.monotonic() + 60
    while True:
        answer = httpx.get(f"{at.root}/health", timeout=60)
        if answer.status_code == 503:
            return answer
        assert time.monotonic() < deadline, "/health never reported that the engine is dead"
        time.sleep(0.2)


def _wait_for(load: Load, answers: int) -> None:
    while len(load.answers) < answers:
        time.sleep(0.05)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """An endpoint of two engines that withholds the model's thinking."""
    folder = tmp_path_factory.mktemp("pair")
    with serving(folder, publish(folder / "run", "tiny", 1, seed=0), "replicas=2", "withhold_reasoning=true") as at:
        deadline = time.monotonic() + 120
        while len(engines_of(at)) < 2:
            assert time.monotonic() < deadline, at.log()
            time.sleep(0.5)
        yield at


@pytest.mark.chaos
def test_a_request_for_withheld_thinking_gets_403(pair: Endpoint) -> None:
    assert post(pair).status_code == 200
    for body, path in (({**CHAT, "reasoning": "inline"}, "/chat/completions"), ({"prompt": "a"}, "/completions")):
        answer = post(pair, body, path)
        assert answer.status_code == 403
        assert "no reasoning" in error_of(answer)["message"]


@pytest.mark.chaos
@pytest.mark.fault(17)
def test_of_two_engines_one_dies_and_the_other_goes_on(pair: Endpoint) -> None:
    callers = 6
    with Load(pair, callers=callers, max_tokens=100) as load:
        _wait_for(load, 2 * callers)
        dead = engines_of(pair)[0]
        dead.kill()
        killed = len(load.answers)
        _wait_for(load, killed + 10 * callers)
    after = Counter(ending for ending, _ in load.answers[killed:])
    assert set(after) <= {"error event", *GOOD}, after
    assert after["error event"] <= callers, after  # streams that the dead engine had begun; the rest never noticed
    deadline = time.monotonic() + 120
    while len(engines_of(pair)) < 2:
        assert time.monotonic() < deadline, "the engine that died was not replaced"
        time.sleep(0.5)
    assert dead.pid not in {engine.pid for engine in engines_of(pair)}
