"""The guard before the endpoint: keys, rates, sizes, a bounded queue and a deadline (ASGI, without Ray and vLLM)."""

import asyncio
import contextlib
import logging
import re
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from rapo_ray.config.serving import EndpointLimits
from rapo_ray.serving.keys import KeyStore
from rapo_ray.serving.problems import Problem
from rapo_ray.serving.rate import RateLimit

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

PUBLIC_PATHS = ("/health",)
DRAIN_SECONDS = 1.0  # for the rest of a refused request's body
REQUEST_ID = re.compile(r"[A-Za-z0-9-]{8,64}")
BUSY_RETRY = 1.0  # seconds after which a caller may try a full queue again

log = logging.getLogger(__name__)


class Guard:
    """ASGI middleware that passes on admitted requests and refuses all others, never revealing an exception's text."""

    def __init__(self, app: App, api_keys: Path, limits: EndpointLimits) -> None:
        """Read the keys; raises ConfigError where their file is not usable."""
        self._app = app
        self._keys = KeyStore(api_keys)
        self._limits = limits
        self._rate = RateLimit(limits.per_minute, limits.burst)
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        sent_id = _header(scope, b"x-request-id")  # Serve's proxy always sets one, and returns it
        request_id = sent_id if REQUEST_ID.fullmatch(sent_id) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        answer = _Answer(send, request_id)
        incoming = _Incoming(receive)
        try:
            async with asyncio.timeout(self._limits.seconds):
                await self._admit(scope, incoming, answer)
        except Problem as problem:
            await incoming.drain(self._limits.body_bytes)
            await answer.fail(problem)
        except TimeoutError:
            await answer.fail(Problem(504, f"no answer in {self._limits.seconds:g} s"))
        except Exception as error:
            await answer.fail(_problem_of(error, request_id))

    async def _admit(self, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        path = str(scope["path"]).rstrip("/") or "/"
        if path in PUBLIC_PATHS:
            await self._app(scope, receive, answer.send)
            return
        holder = self._keys.holder(_header(scope, b"authorization"))
        if holder is None:
            raise Problem(401, "a valid key is required: Authorization: Bearer KEY")
        scope["state"]["holder"] = holder
        if (wait := self._rate.wait(holder)) > 0:
            raise Problem(429, "too many requests with this key", retry_after=wait)
        if self._in_flight >= self._limits.in_flight:
            raise Problem(429, "the queue is full", retry_after=BUSY_RETRY)
        self._in_flight += 1
        try:
            body = await self._body(scope, receive)
            await self._app(scope, _replay(body, receive), answer.send)
        finally:
            self._in_flight -= 1

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        """Read and check the whole body; raises Problem."""
        limit = self._limits.body_bytes
        declared = _header(scope, b"content-length")
        if declared.isdigit() and int(declared) > limit:
            raise Problem(413, f"the body has more than {limit} bytes")
        kind = _header(scope, b"content-type").partition(";")[0].strip().lower()
        if scope["method"] == "POST" and kind != "application/json":
            raise Problem(415, "the body must be application/json")
        parts, size = [], 0
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Problem(400, "the body is incomplete")
                    part = message.get("body", b"")
                    size += len(part)
                    if size > limit:
                        raise Problem(413, f"the body has more than {limit} bytes")
                    parts.append(part)
                    if not message.get("more_body"):
                        return b"".join(parts)
        except TimeoutError:
            raise Problem(408, f"the body took longer than {self._limits.body_seconds:g} s") from None


class _Answer:
    """The state of an answer, so that an error can be reported at any point of it."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._id = request_id
        self._started = False
        self._streams = False
        self._finished = False

    async def send(self, message: Message) -> None:
        """Pass on a message."""
        if message["type"] == "http.response.start":
            self._started = True
            self._streams = any(value.startswith(b"text/event-stream") for _, value in message.get("headers", []))
        elif message["type"] == "http.response.body" and not message.get("more_body"):
            self._finished = True
        await self._send(message)

    async def fail(self, problem: Problem) -> None:
        """Answer with an error, which becomes the last event of a stream that has begun, without `[DONE]`."""
        if self._finished:
            return
        if not self._started:
            start = {"type": "http.response.start", "status": problem.status, "headers": problem.headers()}
            await self._send(start)
            await self._send({"type": "http.response.body", "body": problem.body(self._id)})
        elif self._streams:
            event = b"data: " + problem.body(self._id) + b"\n\n"
            await self._send({"type": "http.response.body", "body": event})
        else:
            raise ConnectionError("the answer is incomplete")  # the server then closes the connection


class _Incoming:
    """A `receive` that tracks the end of the body."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._complete = False

    async def __call__(self) -> Message:
        """The next message."""
        message = await self._receive()
        self._complete = message["type"] == "http.disconnect" or not message.get("more_body")
        return message

    async def drain(self, limit: int) -> None:
        """Read some of the rest: a client that is still sending would see a broken connection, not the answer."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                while not self._complete and limit > 0:
                    limit -= len((await self()).get("body", b""))


def _problem_of(error: Exception, request_id: str) -> Problem:
    """The problem to report for an error; once an answer has begun, Starlette wraps ours in its own error."""
    problem = error.__cause__ if isinstance(error, RuntimeError) else error
    if isinstance(problem, Problem):
        return problem
    log.error("request %s failed", request_id, exc_info=error)  # the exception's text contains no prompts
    return Problem(500, "the server failed")


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that returns the body first and then passes on the client's messages."""
    replayed = False

    async def replay() -> Message:
        nonlocal replayed
        if replayed:
            return await receive()
        replayed = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _header(scope: Scope, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name), "")
