"""The end of an endpoint: answers in flight are given to their ends, new ones are refused, and nothing is left."""

import signal
import threading
import time
from pathlib import Path

import httpx
import psutil
import pytest

from tests.e2e.endpoint import Endpoint, publish, serving
from tests.e2e.load import CHAT, post

pytestmark = pytest.mark.e2e

LONG = {**CHAT, "max_tokens": 400, "temperature": 2}


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_answers_in_flight_end_and_new_ones_get_503(tmp_path: Path, sent: signal.Signals) -> None:
    with serving(tmp_path, publish(tmp_path / "run", "tiny", 1, seed=0)) as at:
        family = psutil.Process(at.pid).children(recursive=True)
        answers: list[str] = []
        callers = [threading.Thread(target=_long_answer, args=(at, stream, answers)) for stream in (True, False)]
        for caller in callers:
            caller.start()
        time.sleep(1)  # both have begun
        psutil.Process(at.pid).send_signal(sent)
        statuses = set()
        while any(caller.is_alive() for caller in callers):
            statuses.add(_status(at))
            time.sleep(0.1)
        assert answers == ["ended", "ended"] and statuses & {503, None}
        psutil.Process(at.pid).wait(timeout=120)
        _, alive = psutil.wait_procs(family, timeout=30)
        assert not alive
        last = at.log().strip().splitlines()
    assert last[-1] == "stopped" and "draining: " in "\n".join(last)
    assert not [line for line in last if "raylet" in line or "Traceback" in line]


def _long_answer(at: Endpoint, stream: bool, answers: list[str]) -> None:
    text = post(at, {**LONG, "stream": stream}).text
    answers.append("ended" if "[DONE]" in text or '"finish_reason"' in text else text)


def _status(at: Endpoint) -> int | None:
    try:
        return post(at).status_code
    except httpx.HTTPError:
        return None
