"""Client of an OpenAI-compatible endpoint, with limits on concurrency, rate, retries and reply size.

Requests go only to the configured URL: it follows no redirects and uses no proxies from the environment.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from rapo_ray.config.request import RequestConfig
from rapo_ray.engines.http_outcome import is_filtered
from rapo_ray.engines.http_refusal import EndpointRefused, endpoint_words, without_secrets
from rapo_ray.errors import EngineError

RETRIED = (408, 429, 500, 502, 503, 504)


def request_body(
    model: str, messages: list[dict[str, str]], request: RequestConfig, limit: int, temperature: float | None
) -> dict[str, Any]:
    """The body of a chat completion of at most `limit` tokens."""
    body = {**request.extra_body, "model": model, "messages": messages, request.limit_field: limit}
    return body if temperature is None else body | {"temperature": temperature}


class ReplyTooLarge(EngineError):
    """A reply exceeds the size limit."""


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """The address of an endpoint and the limits of its use."""

    url: str  # base, as in http://127.0.0.1:8000/v1
    token: str | None = None
    concurrency: int = 32
    per_minute: float | None = None  # calls; None for no limit
    retries: int = 4
    backoff: float = 0.5  # seconds before the first retry, doubled each time, with jitter
    max_reply_bytes: int = 1 << 20


@dataclass(frozen=True, slots=True)
class _Failed:
    """A call without a reply, and the minimum wait in seconds before a retry (None: do not retry)."""

    error: EngineError
    wait: float | None


class ChatEndpoint:
    """Client that posts chat completions."""

    def __init__(self, settings: EndpointSettings, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        import httpx

        headers = {"Authorization": f"Bearer {settings.token}"} if settings.token else {}
        self._settings = settings
        self._httpx = httpx
        self._client = httpx.AsyncClient(
            headers=headers, follow_redirects=False, trust_env=False, timeout=httpx.Timeout(None, connect=10.0)
        )
        self._sleep = sleep
        self._random = random.Random(0)
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._next_call = 0.0

    async def post(self, body: dict[str, Any]) -> bytes:
        """Post a request, with retries, and return the reply's bytes; the caller sets the limit.

        Raises EndpointRefused, or EngineError where there is no answer or one that is too large.
        """
        async with self._slots:
            for attempt in range(self._settings.retries + 1):
                await self._wait_for_turn()
                outcome = await self._try(body, attempt + 1)
                if isinstance(outcome, bytes):
                    return outcome
                if outcome.wait is None or attempt == self._settings.retries:
                    raise outcome.error
                jittered = self._settings.backoff * 2**attempt * (0.5 + self._random.random())
                await self._sleep(max(outcome.wait, jittered))
        raise AssertionError("unreachable")

    async def close(self) -> None:
        """Close its connections."""
        await self._client.aclose()

    async def _try(self, body: dict[str, Any], call: int) -> bytes | _Failed:
        url = f"{self._settings.url.rstrip('/')}/chat/completions"
        try:
            async with self._client.stream("POST", url, json=body) as response:
                if response.status_code == 200:
                    return await self._read(response)
                words, filtered = await self._refusal(response, body)
                refused = EndpointRefused(response.status_code, words, call, filtered)
                retried = response.status_code in RETRIED and not filtered
                return _Failed(refused, _retry_after(response.headers.get("retry-after")) if retried else None)
        except self._httpx.HTTPError as error:
            return _Failed(
                EngineError(f"{type(error).__name__}: {without_secrets(str(error))} after {call} call(s)"), 0.0
            )

    async def _refusal(self, response: Any, body: dict[str, Any]) -> tuple[str, bool]:
        """The words of a refusal, and True where a content filter gave it."""
        sent = [*(message["content"] for message in body["messages"]), self._settings.token or ""]
        try:
            content = await self._read(response)
        except ReplyTooLarge:
            return "", False
        return endpoint_words(content, sent), 400 <= response.status_code < 500 and is_filtered(content)

    async def _wait_for_turn(self) -> None:
        if self._settings.per_minute is None:
            return
        now = time.monotonic()
        turn = max(now, self._next_call)
        self._next_call = turn + 60.0 / self._settings.per_minute
        if turn > now:
            await self._sleep(turn - now)

    async def _read(self, response: Any) -> bytes:
        chunks, size = [], 0
        async for chunk in response.aiter_bytes():
            size += len(chunk)
            if size > self._settings.max_reply_bytes:
                raise ReplyTooLarge(f"the endpoint sent more than {self._settings.max_reply_bytes} bytes")
            chunks.append(chunk)
        return b"".join(chunks)


def _retry_after(header: str | None) -> float:
    try:
        return min(max(float(header or 0.0), 0.0), 60.0)
    except ValueError:
        return 1.0  # a date: one second is enough
