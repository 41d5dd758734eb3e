"""Callers of an endpoint: a single request, and a load of requests for as long as a block runs."""

import itertools
import json
import threading
import time
from typing import Any

import httpx

from tests.e2e.endpoint import Endpoint

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "How do I bake bread?"}], "max_tokens": 16}
INTERNALS = ("Traceback", "ray::", "site-packages", "/tmp/", "Exception", "vllm", "File ")


def post(at: Endpoint, body: Any = CHAT, path: str = "/chat/completions", key: str | None = None) -> httpx.Response:
    """Send one request."""
    headers = {"Authorization": f"Bearer {key or at.key}", "Content-Type": "application/json"}
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx.post(f"{at.url}{path}", content=content, headers=headers, timeout=120)


def error_of(answer: httpx.Response) -> dict[str, Any]:
    """The error of an answer, which reveals no internals."""
    error: dict[str, Any] = answer.json()["error"]
    assert error["request_id"] in error["message"]
    assert not any(word in answer.text for word in INTERNALS), answer.text
    return error


class Load:
    """Callers that send streamed and whole requests in turn until they are stopped, and record every answer."""

    def __init__(self, at: Endpoint, callers: int = 3, max_tokens: int = 24, pause: float = 0.0) -> None:
        self._at = at
        self._pause = pause  # seconds between two requests of a caller
        self._body = {**CHAT, "max_tokens": max_tokens, "temperature": 1.0}
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(number,)) for number in range(callers)]
        self.answers: list[tuple[str, set[str]]] = []  # the outcome, and the versions in the answer

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=120)

    def _call(self, number: int) -> None:
        turns = itertools.count(number)  # by caller: callers in step would all see the same number of answers
        with httpx.Client(timeout=120, headers=self._at.headers()) as client:
            while not self._stop.is_set():
                self.answers.append(self._one(client, stream=next(turns) % 2 == 0))
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
    return "cut off silently", versions


def _version(answer: dict[str, Any]) -> str:
    return str(answer["system_fingerprint"]).split("-v")[1].split("-")[0]
