"""Terminal output: a log that another process is still writing is read line by line."""

import io
import json
import time
from pathlib import Path

import pytest
from rich.console import Console

from rapo_ray import console
from rapo_ray.storage.json_records import from_json, to_json
from rapo_ray.storage.records import WarmupStep

pytestmark = pytest.mark.unit


def shown_within(seconds: float, out: io.StringIO, text: str) -> bool:
    end = time.monotonic() + seconds
    while text not in out.getvalue() and time.monotonic() < end:
        time.sleep(0.005)
    return text in out.getvalue()


def test_half_a_line_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, log = io.StringIO(), tmp_path / "warmup.jsonl"
    monkeypatch.setattr(console, "out", Console(file=out, highlight=False))
    monkeypatch.setattr(console, "POLL_SECONDS", 0.005)
    first, second = (json.dumps(to_json(WarmupStep(step, 1.0 / step, 1e-3))) + "\n" for step in (1, 2))
    log.write_text(first + second[:9])
    with console.follow_log("warm-up", log, 2, lambda line: from_json(WarmupStep, line).loss):
        assert shown_within(5, out, "warm-up: step 1/2, loss 1.000")
        log.write_text(first + second)
        assert shown_within(5, out, "warm-up: step 2/2, loss 0.500")
