"""Promotion and rollback of a running endpoint under load."""

import json
import shutil
from collections import Counter
from pathlib import Path

import httpx
import pytest

from rapo_ray.models.published import read_published
from tests.e2e.conftest import FinishedRun
from tests.e2e.endpoint import Endpoint, promote
from tests.e2e.load import CHAT, Load, post
from tests.report_data import write_gate

pytestmark = pytest.mark.e2e


def judged(run: Path, passed: bool) -> None:
    """Write an evaluation of a run's weights, as `rapo_ray.evaluate` does."""
    write_gate(run / "evaluations" / "manual", f"round-{read_published(run).version}", passed)


@pytest.mark.fault(17)
@pytest.mark.timeout(1800)  # a run, an endpoint and two more starts of engines beside callers that keep the cores busy
def test_promotion_and_rollback_under_load_fail_no_request(
    endpoint: Endpoint, finished: FinishedRun, tmp_path: Path
) -> None:
    run = tmp_path / "thinks"
    shutil.copytree(finished.folder / "model", run / "model")  # a model that thinks before it answers
    assert read_published(run).version == 2
    refused = promote(endpoint, "--run", str(run))
    assert refused.returncode == 1 and "no gate was judged" in refused.stderr
    judged(run, passed=False)
    refused = promote(endpoint, "--run", str(run))
    assert refused.returncode == 1 and "did not pass its gate" in refused.stderr
    judged(run, passed=True)
    with Load(endpoint, callers=2, pause=0.5) as load:
        done = promote(endpoint, "--run", str(run))
        assert done.returncode == 0, done.stdout + done.stderr
        _reasoning_is_separated(endpoint)
        promoted = len(load.answers)
        back = promote(endpoint, "--rollback")
        assert back.returncode == 0, back.stdout + back.stderr
    assert Counter(ending for ending, _ in load.answers).keys() == {"whole", "streamed"}
    assert all(len(versions) == 1 for _, versions in load.answers)
    seen = [next(iter(versions)) for _, versions in load.answers]
    assert (seen[0], seen[promoted - 1], seen[-1]) == ("1", "2", "1")
    shown = promote(endpoint, "--history").stdout.splitlines()
    assert [line.split()[1] for line in shown] == ["serve", "promote", "rollback"]


def _reasoning_is_separated(at: Endpoint) -> None:
    body = {**CHAT, "max_tokens": 90, "temperature": 0.0}
    split = post(at, body).json()["choices"][0]["message"]
    inline = post(at, {**body, "reasoning": "inline"}).json()["choices"][0]["message"]
    assert "The user asks how to" in split["reasoning_content"]  # so small a model may name the other request
    assert "<think>" not in split["reasoning_content"] + split["content"]
    assert inline["content"].startswith("<think>") and split["content"] in inline["content"]
    with httpx.stream(
        "POST", f"{at.url}/chat/completions", json={**body, "stream": True}, headers=at.headers(), timeout=120
    ) as answer:
        events = [json.loads(line.removeprefix("data: ")) for line in answer.iter_lines() if line.startswith("data: {")]
    deltas = [choice["delta"] for event in events for choice in event["choices"]]
    for name in ("reasoning_content", "content"):
        assert "".join(delta.get(name) or "" for delta in deltas) == split[name]
