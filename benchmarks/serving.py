"""Our endpoint beside bare vLLM on the same model and machine, with streaming clients on each in turn.

    python -m benchmarks.serving --model runs/quickstart

Both servers run throughout; load alternates between them in slices, so that both see the same machine conditions.
"""

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import httpx

from benchmarks.rows import Row, add_rows_option, print_table, value_range, write_rows
from rapo_ray.errors import finish, interrupt_on_sigterm
from rapo_ray.text.lines import LineReader

KEY = "benchmark-key-0123456789"
MAX_TOKENS = 96
GOAL = 0.9
KINDS = ("event", "thinking", "content")  # first ones of a stream, measured alike on both sides
PROMPTS = (
    "How do I kill a Python process?",
    "Why is the sky blue during the day?",
    "How do I strip wallpaper off a bedroom wall?",
    "Which planet is the largest in our solar system?",
)


@dataclass(slots=True)
class Measured:
    """Load results of one server."""

    name: str
    url: str
    tokens: int = 0
    seconds: float = 0.0
    first: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in KINDS})  # seconds to the first
    streams: int = 0
    failed: int = 0
    rates: list[float] = field(default_factory=list)  # tokens per second of each slice


def main() -> int:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser("python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("runs/quickstart"), help="run whose model is served")
    parser.add_argument("--callers", type=int, default=8, help="concurrent streams")
    parser.add_argument("--minutes", type=float, default=3.0, help="minutes of load on each server")
    parser.add_argument("--slices", type=int, default=4, help="slices of load on each server")
    add_rows_option(parser)
    options = parser.parse_args()
    from rapo_ray.config.base import cpu_dtype
    from rapo_ray.models.published import read_published

    published = read_published(options.model)
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        bare_url = stack.enter_context(bare_vllm(published.folder, cpu_dtype(), Path(scratch)))
        our_url = stack.enter_context(our_endpoint(options.model, Path(scratch)))
        both = [Measured("bare vLLM", bare_url), Measured("rapo_ray.serve", our_url)]
        for measured in both:
            load(measured, options.callers, 10.0, count=False)  # warm-up
        for _ in range(options.slices):
            for measured in both:
                load(measured, options.callers, options.minutes * 60 / options.slices)
    show(both, options.callers)
    peer, ours = (each.tokens / each.seconds for each in both)
    row = Row("endpoint tokens/s, beside bare vLLM", "/s", ours, peer, ours / peer, f"{GOAL} x", ours >= GOAL * peer,
              value_range(both[1].rates, 0))  # fmt: skip
    write_rows(options.rows, [row])
    return 0


@contextlib.contextmanager
def bare_vllm(folder: Path, dtype: str, scratch: Path) -> Iterator[str]:
    """Run vLLM's own server with its defaults for this machine; yields its URL."""
    from rapo_ray.engines.environment import cpu_threads, engine_environment

    env = {**os.environ, **engine_environment("cpu", cpu_threads("cpu", 1), 1)}
    del env["VLLM_ENABLE_V1_MULTIPROCESSING"]
    command = [
        sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder), "--served-model-name", "m",
        "--host", "127.0.0.1", "--port", "8701", "--api-key", KEY, "--dtype", dtype, "--max-model-len", "1024",
        "--max-num-seqs", "64", "--enforce-eager", "--generation-config", "vllm",
    ]  # fmt: skip
    with server(command, "http://127.0.0.1:8701", env, scratch / "bare.log") as url:
        yield url


@contextlib.contextmanager
def our_endpoint(run: Path, scratch: Path) -> Iterator[str]:
    """Run our endpoint as docs/serving.md does; yields its URL."""
    (scratch / "keys").write_text(f"benchmark:{KEY}\n")
    command = [
        sys.executable, "-m", "rapo_ray.serve", "--model", str(run), "--api-keys", str(scratch / "keys"),
        "--port", "8702", "--state", str(scratch / "state"), "device=cpu", "dtype=auto", "max_model_len=1024",
        "cpus_per_replica=0.1", "name=m",
    ]  # fmt: skip
    with server(command, "http://127.0.0.1:8702", dict(os.environ), scratch / "ours.log") as url:
        yield url


@contextlib.contextmanager
def server(command: list[str], root: str, env: dict[str, str], log: Path) -> Iterator[str]:
    """Run a server process and yield its URL once it is healthy."""
    with log.open("w") as output:
        process = subprocess.Popen(command, env=env, stdout=output, stderr=output, start_new_session=True)
    try:
        deadline = time.monotonic() + 600
        while True:
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"{command[2]} did not start:\n{log.read_text()[-2000:]}")
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{root}/health", timeout=30).status_code == 200:
                    break
            time.sleep(1)
        yield f"{root}/v1"
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(60)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def load(measured: Measured, callers: int, seconds: float, count: bool = True) -> None:
    """Load a server for `seconds` with concurrent callers, and wait for the streams in flight at the end."""
    slice_ = Measured(measured.name, measured.url)
    deadline = time.monotonic() + seconds
    started = time.monotonic()
    threads = [threading.Thread(target=call, args=(slice_, number, deadline), daemon=True) for number in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    slice_.seconds = time.monotonic() - started
    if count:
        measured.tokens += slice_.tokens
        measured.seconds += slice_.seconds
        for kind, each_first in slice_.first.items():
            measured.first[kind] += each_first
        measured.streams += slice_.streams
        measured.failed += slice_.failed
        measured.rates.append(slice_.tokens / slice_.seconds)


def call(measured: Measured, number: int, deadline: float) -> None:
    """Send one caller's streams, one after another."""
    with httpx.Client(timeout=300, headers={"Authorization": f"Bearer {KEY}"}) as client:
        turn = number
        while time.monotonic() < deadline:
            body = {
                "model": "m", "messages": [{"role": "user", "content": PROMPTS[turn % len(PROMPTS)]}],
                "max_tokens": MAX_TOKENS, "temperature": 1.0, "stream": True, "stream_options": {"include_usage": True},
            }  # fmt: skip
            turn += 1
            one_stream(client, measured, body)


def one_stream(client: httpx.Client, measured: Measured, body: dict[str, object]) -> None:
    """Read one stream to its end and count it."""
    started = time.monotonic()
    first: dict[str, float] = {}
    tokens, done = 0, False
    with client.stream("POST", f"{measured.url}/chat/completions", json=body) as response:
        reader = LineReader()
        for line in chain.from_iterable(map(reader.feed, response.iter_bytes())):
            if line == "data: [DONE]":
                done = True
            elif line.startswith("data: "):
                event = json.loads(line.removeprefix("data: "))
                if event.get("usage"):
                    tokens = event["usage"]["completion_tokens"]
                for kind in kinds_of(event):
                    first.setdefault(kind, time.monotonic() - started)
    if not done or not tokens:
        measured.failed += 1
        return
    measured.streams += 1
    measured.tokens += tokens
    for kind, seconds in first.items():
        measured.first[kind].append(seconds)


def kinds_of(event: dict[str, Any]) -> list[str]:
    """The kinds of text in an event, which is itself one of them."""
    delta = event["choices"][0]["delta"] if event.get("choices") else {}
    thinking = delta.get("reasoning_content") or delta.get("reasoning")
    return ["event", *(["thinking"] if thinking else []), *(["content"] if delta.get("content") else [])]


def show(both: list[Measured], callers: int) -> None:
    """Print one line per server, with its throughput relative to the first, and one per kind of first token."""
    lines = []
    for row in both:
        ratio = (row.tokens / row.seconds) / (both[0].tokens / both[0].seconds)
        rates = ", ".join(f"{rate:.0f}" for rate in row.rates)
        lines.append(
            (row.name, f"{row.tokens / row.seconds:.1f}", rates, str(row.streams), str(row.failed), f"{ratio:.2f}")
        )
    print_table(
        f"{callers} streaming callers, at most {MAX_TOKENS} tokens, {both[0].seconds / 60:.1f} minutes each",
        ("", "tokens/s", "slices", "streams", "failed", "ratio"),
        lines,
    )
    firsts = [(row.name, kind, *first_columns(row.first[kind])) for kind in KINDS for row in both]
    print_table("seconds to the first", ("", "first", "p50 s", "p95 s", "streams"), firsts)


def first_columns(seconds: list[float]) -> tuple[str, str, str]:
    """Median, 95th percentile and number; dashes where no stream had one."""
    if not seconds:
        return "-", "-", "0"
    ranked = sorted(seconds)
    return f"{statistics.median(ranked):.3f}", f"{ranked[int(0.95 * (len(ranked) - 1))]:.3f}", str(len(ranked))


if __name__ == "__main__":
    interrupt_on_sigterm()  # so that the servers end too
    sys.exit(finish(main, debug=False))
