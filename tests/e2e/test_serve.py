"""The endpoint for real: what it answers, what it refuses, hostile requests, promotion under load, a dead engine."""

import asyncio
import contextlib
import json
import random
import shutil
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from rapo_ray.published import read_published
from tests.e2e.conftest import FinishedRun
from tests.e2e.endpoint import STRICT_KEY, Endpoint, engines_of, promote, publish, wait_until_healthy

pytestmark = pytest.mark.e2e

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "How do I bake bread?"}], "max_tokens": 16}
INTERNALS = ("Traceback", "ray::", "site-packages", "/tmp/", "Exception", "vllm", "File ")


def post(at: Endpoint, body: Any = CHAT, path: str = "/chat/completions", key: str | None = None) -> httpx.Response:
    """One request."""
    headers = {"Authorization": f"Bearer {key or at.key}", "Content-Type": "application/json"}
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx.post(f"{at.url}{path}", content=content, headers=headers, timeout=120)


def error_of(answer: httpx.Response) -> dict[str, Any]:
    """The error, which shows nothing of what lies behind."""
    error: dict[str, Any] = answer.json()["error"]
    assert error["request_id"] in error["message"]
    assert not any(word in answer.text for word in INTERNALS), answer.text
    return error


def test_every_answer_says_which_weights_gave_it(endpoint: Endpoint) -> None:
    published = read_published(endpoint.folder / "run")
    expected = {"x-rapo-weights-version": "1", "x-rapo-weights-checksum": published.checksum}
    models = httpx.get(f"{endpoint.url}/models", headers=endpoint.headers(), timeout=60)
    (card,) = models.json()["data"]
    assert (card["id"], card["metadata"]["weights_version"], card["metadata"]["checksum"]) == (
        "tiny", 1, published.checksum,
    )  # fmt: skip
    one = httpx.get(f"{endpoint.url}/models/tiny", headers=endpoint.headers(), timeout=60)
    chat = post(endpoint)
    plain = post(endpoint, {"prompt": "Bread", "max_tokens": 4, "n": 2, "temperature": 1.0, "seed": 3}, "/completions")
    for answer in (models, one, chat, plain):
        assert answer.status_code == 200
        assert {name: answer.headers[name] for name in expected} == expected
    assert chat.json()["system_fingerprint"] == plain.json()["system_fingerprint"] == published.id
    assert chat.json()["usage"]["completion_tokens"] <= 16
    assert [choice["index"] for choice in plain.json()["choices"]] == [0, 1]
    assert httpx.get(f"{endpoint.root}/health", timeout=60).json() == {"status": "ok", "version": 1}


def test_seed_stop_and_logprobs_do_what_they_say(endpoint: Endpoint) -> None:
    asked = {**CHAT, "temperature": 1.0, "seed": 5, "logprobs": True, "top_logprobs": 2}
    one, two = post(endpoint, asked).json(), post(endpoint, asked).json()
    assert one["choices"] == two["choices"]
    tokens = one["choices"][0]["logprobs"]["content"]
    assert len(tokens) == one["usage"]["completion_tokens"] and len(tokens[0]["top_logprobs"]) >= 2
    text = one["choices"][0]["message"]["content"]
    letter = text[len(text) // 2]
    stopped = post(endpoint, {**asked, "stop": letter}).json()["choices"][0]["message"]["content"]
    assert stopped == text.split(letter)[0]


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (400, {**CHAT, "chat_template": "{{ x }}"}, "chat_template"),
        (400, {**CHAT, "response_format": {"type": "json_object"}}, "response_format"),
        (400, {**CHAT, "max_tokens": 10_000}, "max_tokens=10000 is more than 128"),
        (400, {"messages": [{"role": "user", "content": "bread " * 2000}]}, "longer than the model's context"),
        (400, {"messages": CHAT["messages"] * 17}, "17 messages are more than 16"),
        (400, {**CHAT, "n": 99}, "n=99 is more than 4"),
        (400, b"{", "JSON"),
        (404, {**CHAT, "model": "other"}, "the model is tiny"),
        (413, {"messages": [{"role": "user", "content": "x" * 70_000}]}, "more than 65536 bytes"),
    ],
)
def test_what_is_refused_says_why(endpoint: Endpoint, status: int, body: Any, said: str) -> None:
    answer = post(endpoint, body)
    assert answer.status_code == status
    error = error_of(answer)
    assert said in error["message"] and error["code"] == status


def test_keys_open_everything_but_health_and_change_with_their_file(endpoint: Endpoint) -> None:
    for path in ("/v1/models", "/openapi.json", "/docs", "/metrics", "/nothing"):
        for headers in ({}, {"Authorization": "Bearer wrong-wrong-wrong-wrong"}):
            assert httpx.get(f"{endpoint.root}{path}", headers=headers, timeout=60).status_code == 401
    assert httpx.get(f"{endpoint.root}/nothing", headers=endpoint.headers(), timeout=60).status_code == 404
    assert "access-control-allow-origin" not in post(endpoint).headers
    keys = endpoint.folder / "keys"
    before = keys.read_text()
    fresh = "key-of-eve-0123456789abcdef"
    assert post(endpoint, key=fresh).status_code == 401
    keys.write_text(f"{before}eve:{fresh}\n")
    time.sleep(1.5)
    assert post(endpoint, key=fresh).status_code == 200
    keys.write_text(before)
    time.sleep(1.5)
    assert post(endpoint, key=fresh).status_code == 401


def test_a_full_queue_says_429_and_when_to_come_again(endpoint: Endpoint) -> None:
    async def flood() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(timeout=180, limits=limits, headers=endpoint.headers()) as client:
            body = {**CHAT, "max_tokens": 100, "temperature": 1.0}
            calls = [client.post(f"{endpoint.url}/chat/completions", json=body) for _ in range(80)]
            return await asyncio.gather(*calls)

    answers = asyncio.run(flood())
    counted = Counter(answer.status_code for answer in answers)
    assert set(counted) == {200, 429} and counted[200] >= 32
    assert all(int(a.headers["retry-after"]) >= 1 for a in answers if a.status_code == 429)
    assert post(endpoint).status_code == 200


FIELDS = (
    "messages",
    "model",
    "n",
    "stop",
    "seed",
    "temperature",
    "stream",
    "logprobs",
    "chat_template",
    "tools",
    "\u0000",
)


def hostile(generator: random.Random) -> bytes:
    """A body that nobody should send."""
    kind = generator.randrange(8)
    if kind == 0:
        return generator.randbytes(generator.randrange(200))
    if kind == 1:
        return b"[" * generator.randrange(1, 60_000)
    if kind == 2:
        return json.dumps(CHAT).encode()[: generator.randrange(60)]
    values = (None, -1, 1e308, "x" * generator.randrange(3000), [], {}, [[[]]], True, "\ud800", 2**70, {"a": {"b": []}})
    body = dict(CHAT)
    for _ in range(generator.randrange(1, 4)):
        body[generator.choice(FIELDS)] = generator.choice(values)
    if kind == 3:
        body["messages"] = [{"role": generator.choice(["user", "root", ""]), "content": generator.choice(values)}]
    return json.dumps(body).encode()


def test_a_thousand_hostile_requests_leave_it_healthy(endpoint: Endpoint) -> None:
    generator = random.Random(7)
    statuses: Counter[int] = Counter()
    headers = {**endpoint.headers(), "Content-Type": "application/json"}
    with httpx.Client(timeout=120, headers=headers) as client:
        for number in range(960):
            path = "/chat/completions" if number % 3 else "/completions"
            answer = client.post(f"{endpoint.url}{path}", content=hostile(generator))
            statuses[answer.status_code] += 1
            if answer.status_code != 200:
                error_of(answer)
    address = ("127.0.0.1", int(endpoint.root.rpartition(":")[2]))
    with contextlib.ExitStack() as stack:
        for number in range(40):
            stack.enter_context(_half_open(address, endpoint.key, number))
        assert post(endpoint).status_code == 200
    assert set(statuses) <= {200, 400, 404, 413}, statuses
    assert statuses[400] > 500
    wait_until_healthy(endpoint, 60)
    assert post(endpoint).status_code == 200


@contextlib.contextmanager
def _half_open(address: tuple[str, int], key: str, number: int) -> Iterator[None]:
    """A connection that sends part of a request, slowly or not, and stays or goes."""
    with socket.create_connection(address, timeout=30) as connection:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
        connection.sendall(head.encode())
        if number % 2:
            connection.sendall(b"Content-Type: application/json\r\nContent-Length: 900\r\n\r\n{")
        if number % 4 == 3:
            connection.shutdown(socket.SHUT_WR)
        yield


def test_a_slow_body_is_given_up(endpoint: Endpoint) -> None:
    host, port = "127.0.0.1", int(endpoint.root.rpartition(":")[2])
    with socket.create_connection((host, port), timeout=60) as connection:
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {endpoint.key}\r\n"
            "Content-Type: application/json\r\nContent-Length: 900\r\n\r\n{"
        )
        connection.sendall(head.encode())
        assert b" 408 " in connection.recv(4096)


# --- under load -----------------------------------------------------------------------------------------------------


class Load:
    """Callers that ask, streamed and whole in turn, until they are stopped; keeps what each answer was."""

    def __init__(self, at: Endpoint, callers: int = 3, max_tokens: int = 24, pause: float = 0.0) -> None:
        self._at = at
        self._pause = pause  # seconds between two requests of a caller
        self._body = {**CHAT, "max_tokens": max_tokens, "temperature": 1.0}
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(number,)) for number in range(callers)]
        self.answers: list[tuple[str, set[str]]] = []  # how it ended, and the versions that it carries

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=120)

    def _call(self, number: int) -> None:
        with httpx.Client(timeout=120, headers=self._at.headers()) as client:
            while not self._stop.is_set():
                self.answers.append(self._one(client, stream=len(self.answers) % 2 == 0))
                time.sleep(self._pause)

    def _one(self, client: httpx.Client, stream: bool) -> tuple[str, set[str]]:
        url, body = f"{self._at.url}/chat/completions", {**self._body, "stream": stream}
        try:
            if not stream:
                answer = client.post(url, json=body)
                if answer.status_code != 200:
                    return str(answer.status_code), set()
                return "whole", {answer.headers["x-rapo-weights-version"], _version(answer.json())}
            with client.stream("POST", url, json=body) as answer:
                if answer.status_code != 200:
                    return str(answer.status_code), set()
                return _read_stream(answer)
        except httpx.HTTPError as error:
            return type(error).__name__, set()


def _read_stream(answer: httpx.Response) -> tuple[str, set[str]]:
    versions = {answer.headers["x-rapo-weights-version"]}
    for line in answer.iter_lines():
        if line == "data: [DONE]":
            return "streamed", versions
        if line.startswith("data: "):
            event = json.loads(line.removeprefix("data: "))
            if "error" in event:
                return "error event", versions
            versions.add(_version(event))
    return "cut off without a word", versions


def _version(answer: dict[str, Any]) -> str:
    return str(answer["system_fingerprint"]).split("-v")[1].split("-")[0]


def judged(run: Path, passed: bool) -> None:
    """An evaluation of a run's weights, as `rapo_ray.evaluate` leaves it."""
    folder = run / "evaluations" / "manual"
    folder.mkdir(parents=True, exist_ok=True)
    check = {"metric": "asr", "verdict": "pass" if passed else "fail", "why": "the upper bound is above 0.1"}
    revision = f"round-{read_published(run).version}"
    (folder / "results.json").write_text(json.dumps({"models": {"model": {"revision": revision}}}))
    (folder / "gate.json").write_text(json.dumps({"passed": passed, "model": "model", "checks": [check]}))


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
        _reasoning_is_told_apart(endpoint)
        promoted = len(load.answers)
        back = promote(endpoint, "--rollback")
        assert back.returncode == 0, back.stdout + back.stderr
    assert Counter(ending for ending, _ in load.answers).keys() == {"whole", "streamed"}
    assert all(len(versions) == 1 for _, versions in load.answers)
    seen = [next(iter(versions)) for _, versions in load.answers]
    assert (seen[0], seen[promoted - 1], seen[-1]) == ("1", "2", "1")
    shown = promote(endpoint, "--history").stdout.splitlines()
    assert [line.split()[1] for line in shown] == ["serve", "promote", "rollback"]


def _reasoning_is_told_apart(at: Endpoint) -> None:
    asked = {**CHAT, "max_tokens": 90, "temperature": 0.0}
    split = post(at, asked).json()["choices"][0]["message"]
    inline = post(at, {**asked, "reasoning": "inline"}).json()["choices"][0]["message"]
    assert "The user asks how to" in split["reasoning_content"]  # so small a model may name the other request
    assert "<think>" not in split["reasoning_content"] + split["content"]
    assert inline["content"].startswith("<think>") and split["content"] in inline["content"]
    with httpx.stream(
        "POST", f"{at.url}/chat/completions", json={**asked, "stream": True}, headers=at.headers(), timeout=120
    ) as answer:
        events = [json.loads(line.removeprefix("data: ")) for line in answer.iter_lines() if line.startswith("data: {")]
    deltas = [choice["delta"] for event in events for choice in event["choices"]]
    for name in ("reasoning_content", "content"):
        assert "".join(delta.get(name) or "" for delta in deltas) == split[name]


def test_a_killed_engine_cuts_streams_with_an_error_and_comes_back(endpoint: Endpoint) -> None:
    with Load(endpoint, max_tokens=120) as load:
        while len(load.answers) < 3:
            time.sleep(0.1)
        engines = engines_of(endpoint)
        assert engines
        for engine in engines:
            engine.send_signal(signal.SIGKILL)
        killed = len(load.answers)
        while len(load.answers) < killed + 3:  # what was under way, and what came next
            time.sleep(0.05)
    endings = Counter(ending for ending, _ in load.answers[killed:])
    assert "cut off without a word" not in endings
    assert set(endings) & {"error event", "503"}, endings
    wait_until_healthy(endpoint, 300)
    assert post(endpoint).status_code == 200


def test_what_is_not_published_whole_or_has_no_keys_starts_nothing(tmp_path: Path) -> None:
    import subprocess
    import sys

    from tests.e2e.conftest import REPOSITORY, environment

    run = publish(tmp_path / "run", "tiny", 1, seed=0)
    (tmp_path / "keys").write_text(f"bob:{STRICT_KEY}\n")
    (run / "model" / "config.json").write_text("{}")
    for arguments, said in (
        (["--model", str(run), "--api-keys", str(tmp_path / "keys")], "config.json has sha256"),
        (["--model", str(tmp_path), "--api-keys", str(tmp_path / "keys")], "no published model"),
        (["--model", str(run), "--api-keys", str(tmp_path / "none")], "cannot read"),
        (["--model", str(run), "--api-keys", str(tmp_path / "keys"), "limits.n=99"], "less than or equal to 8"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "rapo_ray.serve", *arguments], cwd=REPOSITORY, env=environment(),
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 1 and said in done.stderr and "Traceback" not in done.stderr, done.stderr
