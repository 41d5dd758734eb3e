"""The end of an endpoint: answers in flight are given to their ends, new ones are refused, and nothing is left."""

import signal
import threading
from pathlib import Path

import httpx
import psutil
import pytest

from tests.e2e.endpoint import Endpoint, publish, serving
from tests.e2e.load import CHAT, post

pytestmark = pytest.mark.e2e

LONG = {**CHAT, "max_tokens": 400, "temperature": 2}
CALLERS = 8  # enough for the answers to outlast the signal's way


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_answers_in_flight_end_and_new_ones_get_503(tmp_path: Path, sent: signal.Signals) -> None:
    with serving(tmp_path, publish(tmp_path / "run", "tiny", 1, seed=0)) as at:
        family = psutil.Process(at.pid).children(recursive=True)
        answers: list[str] = []
        begun = threading.Semaphore(0)
        callers = [threading.Thread(target=_long_answer, args=(at, begun, answers)) for _ in range(CALLERS)]
        for caller in callers:
            caller.start()
        for _ in callers:
            assert begun.acquire(timeout=60)
        psutil.Process(at.pid).send_signal(sent)
        refusals: set[int | None] = set()
        while any(caller.is_alive() for caller in callers):
            refusals.add(_status(at))
        assert answers == ["ended"] * CALLERS and refusals & {503, None}
        psutil.Process(at.pid).wait(timeout=120)
        _, alive = psutil.wait_procs(family, timeout=30)
        assert not alive
        last = at.log().strip().splitlines()
    assert last[-1] == "stopped" and "draining: " in "\n".join(last)
    assert not [line for line in last if "raylet" in line or "Traceback" in line]


def _long_answer(at: Endpoint, begun: threading.Semaphore, answers: list[str]) -> None:
    """Read one stream to its end; `begun` is released as soon as it has."""
    body = {**LONG, "stream": True}
    with httpx.stream("POST", f"{at.url}/chat/completions", json=body, headers=at.headers(), timeout=120) as stream:
        text = ""
        for piece in stream.iter_text():
            if not text:
                begun.release()
            text += piece
    answers.append("ended" if "[DONE]" in text and '"error"' not in text else text)


def _status(at: Endpoint) -> int | None:
    try:
        return post(at).status_code
    except httpx.HTTPError:
        return None
