"""The real endpoint: its answers, its refusals, and hostile requests."""

import asyncio
import contextlib
import json
import random
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from rapo_ray.models.published import read_published
from tests.e2e.conftest import REPOSITORY, environment
from tests.e2e.endpoint import STRICT_KEY, Endpoint, publish, wait_until_healthy
from tests.e2e.load import CHAT, error_of, post

pytestmark = pytest.mark.e2e


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


def test_a_model_is_listed_as_openai_s_api_lists_it_and_health_takes_head(endpoint: Endpoint) -> None:
    (card,) = httpx.get(f"{endpoint.url}/models", headers=endpoint.headers(), timeout=60).json()["data"]
    assert (card["object"], card["owned_by"]) == ("model", "rapo_ray") and card["created"] > 1_700_000_000
    head = httpx.head(f"{endpoint.root}/health", timeout=60)
    assert (head.status_code, head.content) == (200, b"")


def test_a_completion_has_the_caller_s_id_only_where_it_is_one(endpoint: Endpoint) -> None:
    def completion_id(sent: str) -> str:
        headers = {**endpoint.headers(), "x-request-id": sent}
        answer = httpx.post(f"{endpoint.url}/chat/completions", json=CHAT, headers=headers, timeout=120)
        assert answer.status_code == 200
        return str(answer.json()["id"])

    assert completion_id("ann-0123456789") == "chatcmpl-ann-0123456789"
    for unfit in ("a b; drop", "x" * 65, "short", "../../etc/passwd"):
        assert re.fullmatch(r"chatcmpl-[0-9a-f]{32}", completion_id(unfit))


def test_what_clients_send_without_meaning_anything_changes_nothing(endpoint: Endpoint) -> None:
    greedy = {**CHAT, "temperature": 0}
    neutral = {
        "response_format": {"type": "text"}, "tools": [], "tool_choice": "auto", "logit_bias": {}, "store": False,
        "metadata": {}, "parallel_tool_calls": True, "service_tier": "auto", "reasoning_effort": "medium",
        "modalities": ["text"], "n": 1, "user": "ann", "stop": None, "seed": None, "stream": None, "audio": None,
    }  # fmt: skip
    plain, sent = post(endpoint, greedy), post(endpoint, {**greedy, **neutral})
    assert sent.status_code == 200, sent.text
    assert sent.json()["choices"] == plain.json()["choices"]
    (turn,) = CHAT["messages"]
    in_parts = {**greedy, "messages": [{"role": "user", "content": [{"type": "text", "text": turn["content"]}]}]}
    assert post(endpoint, in_parts).json()["choices"] == plain.json()["choices"]
    system, developer = (
        post(endpoint, {**greedy, "messages": [{"role": role, "content": "Be brief."}, turn]}).json()
        for role in ("system", "developer")
    )
    assert system["choices"] == developer["choices"]


def test_plain_completions_take_a_batch_of_prompts(endpoint: Endpoint) -> None:
    body = {"prompt": ["Bread", "Rice"], "max_tokens": 4, "temperature": 0}
    batch = post(endpoint, body, "/completions").json()
    single = [post(endpoint, {**body, "prompt": prompt}, "/completions").json() for prompt in body["prompt"]]
    assert [choice["text"] for choice in batch["choices"]] == [one["choices"][0]["text"] for one in single]
    assert batch["usage"]["completion_tokens"] == sum(one["usage"]["completion_tokens"] for one in single)
    streamed = post(endpoint, {**body, "stream": True, "n": 2, "temperature": 1}, "/completions").text
    events = [json.loads(line[6:]) for line in streamed.split("\n") if line.startswith("data: {")]
    finished = [one["index"] for event in events for one in event["choices"] if one["finish_reason"]]
    assert sorted(finished) == [0, 1, 2, 3] and streamed.rstrip().endswith("data: [DONE]")


def test_seed_stop_and_logprobs_do_what_they_say(endpoint: Endpoint) -> None:
    body = {**CHAT, "temperature": 1.0, "seed": 5, "logprobs": True, "top_logprobs": 2}
    one, two = post(endpoint, body).json(), post(endpoint, body).json()
    assert one["choices"] == two["choices"]
    tokens = one["choices"][0]["logprobs"]["content"]
    assert len(tokens) == one["usage"]["completion_tokens"] and len(tokens[0]["top_logprobs"]) >= 2
    text = one["choices"][0]["message"]["content"]
    letter = text[len(text) // 2]
    stopped = post(endpoint, {**body, "stop": letter}).json()["choices"][0]["message"]["content"]
    assert stopped == text.split(letter)[0]


@pytest.mark.parametrize(
    ("status", "body", "problem"),
    [
        (400, {**CHAT, "chat_template": "{{ x }}"}, "chat_template"),
        (400, {**CHAT, "response_format": {"type": "json_object"}}, "response_format"),
        (400, {**CHAT, "max_tokens": True}, "max_tokens: "),
        (400, {"messages": [{"role": "user", "content": "a\ud800"}]}, "messages.0.content: character 2 is a lone"),
        (400, {**CHAT, "max_tokens": 10_000}, "max_tokens=10000 is more than 128"),
        (400, {"messages": [{"role": "user", "content": "bread " * 2000}]}, "longer than the model's context"),
        (400, {"messages": CHAT["messages"] * 17}, "17 messages are more than 16"),
        (400, {**CHAT, "n": 99}, "n=99 is more than 4"),
        (400, b"{", "JSON"),
        (404, {**CHAT, "model": "other"}, "the model is tiny"),
        (413, {"messages": [{"role": "user", "content": "x" * 70_000}]}, "more than 65536 bytes"),
    ],
)
def test_a_refusal_names_the_problem(endpoint: Endpoint, status: int, body: Any, problem: str) -> None:
    answer = post(endpoint, body)
    assert answer.status_code == status
    error = error_of(answer)
    assert problem in error["message"] and error["code"] == status


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
    for broken in ("", "nonsense", f"{before}eve"):
        keys.write_text(broken)
        time.sleep(1.5)
        assert post(endpoint).status_code == 401
    keys.write_text(f"{before}eve:{fresh}\n")
    time.sleep(1.5)
    assert post(endpoint, key=fresh).status_code == 200
    keys.write_text(before)
    time.sleep(1.5)
    assert post(endpoint, key=fresh).status_code == 401


@pytest.mark.fault(18)
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
    """A hostile request body."""
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
    """A connection that sends part of a request and stays open or shuts down."""
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


def test_connections_without_headers_are_closed_and_bounded(endpoint: Endpoint) -> None:
    address = ("127.0.0.1", int(endpoint.root.rpartition(":")[2]))
    beginnings = (b"", b"POST /v1/chat", b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Slow: ")
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection(address, timeout=60)) for _ in range(80)]
        for number, connection in enumerate(slow):
            with contextlib.suppress(OSError):  # it may be closed already
                connection.sendall(beginnings[number % 3])
        oldest = {_last_words(connection) for connection in slow[:20]}  # more than may wait: closed for the newer ones
        assert oldest <= {408, None}  # None where it was closed before it was read
        assert post(endpoint).status_code == 200
        assert {_last_words(connection) for connection in slow[20:]} == {408}
    with socket.create_connection(address, timeout=60) as reused:
        reused.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b" 200 " in reused.recv(4096)
        reused.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: ")  # its next request counts as well
        assert _last_words(reused) == 408


def _last_words(connection: socket.socket) -> int | None:
    """The status with which the server closes a connection; None where it closes it without one."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while part := connection.recv(4096):
            received += part
    statuses = re.findall(rb"HTTP/1.1 (\d+) ", received)
    return int(statuses[-1]) if statuses else None


def test_an_incomplete_model_or_missing_keys_start_nothing(tmp_path: Path) -> None:
    run = publish(tmp_path / "run", "tiny", 1, seed=0)
    (tmp_path / "keys").write_text(f"bob:{STRICT_KEY}\n")
    (run / "model" / "config.json").write_text("{}")
    for arguments, problem in (
        (["--model", str(run), "--api-keys", str(tmp_path / "keys")], "config.json has sha256"),
        (["--model", str(tmp_path), "--api-keys", str(tmp_path / "keys")], "no published model"),
        (["--model", str(run), "--api-keys", str(tmp_path / "none")], "cannot read"),
        (["--model", str(run), "--api-keys", str(tmp_path / "keys"), "limits.n=99"], "less than or equal to 8"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "rapo_ray.serve", *arguments], cwd=REPOSITORY, env=environment(),
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 1 and problem in done.stderr and "Traceback" not in done.stderr, done.stderr
