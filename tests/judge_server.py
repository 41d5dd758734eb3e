"""A scripted OpenAI-compatible judge on loopback: a real HTTP server whose answers come from the test."""

import contextlib
import itertools
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from rapo_ray.judging.probe import REQUEST


@dataclass(frozen=True)
class Scripted:
    """One HTTP response."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0  # seconds before the first byte
    drip: float = 0.0  # seconds between two bytes


Script = Callable[[dict[str, Any], int], Scripted]


def completion(text: str, finish: str = "stop", tokens: int = 10, logprobs: dict[str, float] | None = None) -> Scripted:
    """A chat completion with the given text."""
    choice: dict[str, Any] = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    if logprobs is not None:
        top = [{"token": token, "logprob": value} for token, value in logprobs.items()]
        choice["logprobs"] = {"content": [{"token": text, "logprob": 0.0, "top_logprobs": top}]}
    return Scripted(json.dumps({"choices": [choice], "usage": {"total_tokens": tokens}}).encode())


def is_probe(body: dict[str, Any]) -> bool:
    """True for the first call of a judge, which is about no completion of a test."""
    return any(REQUEST in str(message["content"]) for message in body["messages"])


def probed(script: Script) -> Script:
    """The script, with an admissible reply to a judge's first call."""

    def reply(body: dict[str, Any], before: int) -> Scripted:
        return completion(offered(body["messages"][-1]["content"])[0]) if is_probe(body) else script(body, before)

    return reply


def hosted(script: Script) -> Script:
    """The script behind an endpoint that takes no `max_tokens`, no temperature and no seed, and says so."""
    refused = {
        "max_tokens": "Unsupported parameter: 'max_tokens' is not supported with this model. "
        "Use 'max_completion_tokens' instead.",
        "temperature": "Unsupported value: 'temperature' does not support 0.0 with this model.",
        "seed": "Unknown parameter: 'seed'.",
    }

    def reply(body: dict[str, Any], before: int) -> Scripted:
        for name, words in refused.items():
            if name in body:
                error = {"error": {"message": words, "type": "invalid_request_error", "param": name, "code": None}}
                return Scripted(json.dumps(error).encode(), status=400)
        return script(body, before)

    return reply


def thinking(script: Script, spent: int = 300) -> Script:
    """The script behind a model that first thinks for `spent` tokens of its limit, unless its template forbids it."""

    def reply(body: dict[str, Any], before: int) -> Scripted:
        thinks = (body.get("chat_template_kwargs") or {}).get("enable_thinking", True)
        limit = body.get("max_tokens", body.get("max_completion_tokens"))
        if thinks and limit <= spent:
            message = {"role": "assistant", "content": None, "reasoning": "I weigh it."}
            choice = {"index": 0, "message": message, "finish_reason": "length"}
            return Scripted(json.dumps({"choices": [choice], "usage": {"total_tokens": limit}}).encode())
        return script(body, before)

    return reply


def offered(text: str) -> list[str]:
    """The admissible replies of a question, as JSON objects."""
    replies = text.partition("\nReplies: ")[2].partition("\n")[0]
    if "|" not in replies:
        return re.findall(r"\{[^{}]*\}", replies)
    values = [[json.loads(value) for value in some.split("|")] for some in re.findall(r": ([^,}]+)", replies)]
    names = re.findall(r'"(\w+)": ', replies)
    return [json.dumps(dict(zip(names, some, strict=True))) for some in itertools.product(*values)]


@dataclass
class JudgeServer:
    """The running server: its base URL and the requests that it received."""

    url: str
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0


@contextlib.contextmanager
def judge_server(script: Script) -> Iterator[JudgeServer]:
    """Serve `script(request body, number of earlier calls with the same body)`."""
    lock = threading.Lock()
    seen: dict[str, int] = {}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            body = json.loads(raw)
            with lock:
                before = seen.get(raw.decode(), 0)
                seen[raw.decode()] = before + 1
                server.requests.append(body)
                server.headers.append({name.lower(): value for name, value in self.headers.items()})
                server.at_once += 1
                server.most_at_once = max(server.most_at_once, server.at_once)
            answer = script(body, before)
            with contextlib.suppress(OSError):  # the client has gone
                time.sleep(answer.delay)
                self.send_response(answer.status)
                for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self._write(answer)
            with lock:
                server.at_once -= 1

        def _write(self, answer: Scripted) -> None:
            if not answer.drip:
                self.wfile.write(answer.body)
                return
            for byte in answer.body:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                time.sleep(answer.drip)

        def log_message(self, *arguments: Any) -> None:
            """Log nothing."""

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    server = JudgeServer(f"http://127.0.0.1:{httpd.server_address[1]}/v1")
    thread = threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        httpd.shutdown()
        httpd.server_close()
