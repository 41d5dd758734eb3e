"""An OpenAI-compatible HTTP judge: one place for concurrency, rate, retries, deadlines, size and where it may connect.

Requests go only to the configured address: no redirects, no proxies from the environment, and a host inside a private
network only where the config says so (RFC 1918, loopback, link-local: the judge must not be a way into the cluster).
"""

import asyncio
import ipaddress
import json
import math
import random
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rapo_ray.errors import ConfigError, EngineError
from rapo_ray.judging.questions import JudgeFailure, Question, Reply
from rapo_ray.types import Status

RETRIED = (408, 429, 500, 502, 503, 504)
MAX_BODY = 1 << 20  # bytes of a reply; a verdict has a few hundred
LABEL_LOGPROBS = 20  # the most that OpenAI gives


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """Where the judge is and how hard it may be asked."""

    url: str  # base, as in http://127.0.0.1:8000/v1
    model: str
    token: str | None = None
    concurrency: int = 32
    per_minute: float | None = None  # calls; None for no limit
    retries: int = 4
    backoff: float = 0.5  # seconds before the first retry, doubled each time, with jitter
    max_tokens: int = 512  # of a free-text reply


def check_url(url: str, allow_private: bool) -> None:
    """Raises ConfigError for an address that a judge may not have, naming what is wrong."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"judge url {url!r} is no http(s) address")
    if parts.username or parts.password:
        raise ConfigError("the judge url holds user or password; give a token file instead (judge.*.token_file)")
    if allow_private:
        return
    try:
        found = {info[4][0] for info in socket.getaddrinfo(parts.hostname, parts.port or 443)}
    except OSError as error:
        raise ConfigError(f"judge url {url!r}: cannot resolve {parts.hostname}: {error}") from error
    private = sorted(str(address) for address in found if not ipaddress.ip_address(address).is_global)
    if private:
        raise ConfigError(
            f"judge url {url!r} leads to {private[0]}, inside a private network; judge.*.allow_private=true allows that"
        )
    if parts.scheme != "https":
        raise ConfigError(f"judge url {url!r} would send prompts in clear text over the internet; use https")


def read_token(path: Path | None) -> str | None:
    """The token in a file; raises ConfigError where there is none, without a word of its content."""
    if path is None:
        return None
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the judge's token file {path}: {type(error).__name__}") from None
    if not token or any(character.isspace() for character in token):
        raise ConfigError(f"the judge's token file {path} must hold one token and nothing else")
    return token


class HttpAsk:
    """Asks a chat-completions endpoint."""

    def __init__(
        self,
        settings: HttpSettings,
        client: Any = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        seed: int = 0,
    ) -> None:
        import httpx

        headers = {"Authorization": f"Bearer {settings.token}"} if settings.token else {}
        self._settings = settings
        self._httpx = httpx
        self._client = client or httpx.AsyncClient(
            headers=headers, follow_redirects=False, trust_env=False, timeout=httpx.Timeout(None, connect=10.0)
        )
        self._sleep = sleep
        self._random = random.Random(seed)
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._next_call = 0.0

    async def __call__(self, question: Question) -> Reply:
        """The reply after as many tries as the settings allow; raises JudgeFailure or EngineError. The caller times."""
        async with self._slots:
            for attempt in range(self._settings.retries + 1):
                await self._wait_for_turn()
                reply, problem, wait = await self._try(question)
                if reply is not None:
                    return reply
                if wait is None or attempt == self._settings.retries:
                    raise EngineError(f"{problem} after {attempt + 1} call(s)")
                jittered = self._settings.backoff * 2**attempt * (0.5 + self._random.random())
                await self._sleep(max(wait, jittered))
        raise AssertionError("unreachable")

    async def _try(self, question: Question) -> tuple[Reply | None, str, float | None]:
        """A reply, or what went wrong and how long to wait at least before the next try (None: there is no sense)."""
        url = f"{self._settings.url.rstrip('/')}/chat/completions"
        try:
            async with self._client.stream("POST", url, json=self._body(question)) as response:
                if response.status_code in RETRIED:
                    return None, f"HTTP {response.status_code}", _retry_after(response.headers.get("retry-after"))
                if response.status_code != 200:
                    return None, f"HTTP {response.status_code}", None
                content = await _read(response)
        except self._httpx.HTTPError as error:
            return None, f"{type(error).__name__}: {error}", 0.0
        return _reply(content, question), "", None

    def _body(self, question: Question) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self._settings.model,
            "messages": [{"role": message.role, "content": message.content} for message in question.messages],
            "temperature": 0,
            "max_tokens": self._settings.max_tokens,
        }
        if question.style == "label":
            body |= {"max_tokens": 1, "logprobs": True, "top_logprobs": LABEL_LOGPROBS}
        if question.style == "choice":
            body |= {"max_tokens": 64, "response_format": _schema(question)}
        return body

    async def _wait_for_turn(self) -> None:
        if self._settings.per_minute is None:
            return
        now = time.monotonic()
        turn = max(now, self._next_call)
        self._next_call = turn + 60.0 / self._settings.per_minute
        if turn > now:
            await self._sleep(turn - now)


async def _read(response: Any) -> bytes:
    chunks, size = [], 0
    async for chunk in response.aiter_bytes():
        size += len(chunk)
        if size > MAX_BODY:
            raise JudgeFailure(Status.PARSE, f"the judge sent more than {MAX_BODY} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


def _reply(content: bytes, question: Question) -> Reply:
    try:
        body = json.loads(content)
        choice = body["choices"][0]
        text = choice["message"]["content"] or ""
        tokens = int(body.get("usage", {}).get("total_tokens", 0))
        cut = choice.get("finish_reason") == "length" and question.style != "label"
        if not isinstance(text, str):
            raise TypeError
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        raise JudgeFailure(Status.PARSE, "the judge's HTTP reply is no chat completion") from None
    return Reply(text.strip(), tokens, _probabilities(choice, question), truncated=cut)


def _probabilities(choice: dict[str, Any], question: Question) -> tuple[float, ...] | None:
    """Of each label among the labels, from the first token's log-probs."""
    if question.style != "label":
        return None
    try:
        top = {
            item["token"].strip(): float(item["logprob"]) for item in choice["logprobs"]["content"][0]["top_logprobs"]
        }
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        return None
    weights = [math.exp(top[label]) if label in top else 0.0 for label in question.replies]
    total = sum(weights)
    return tuple(weight / total for weight in weights) if total > 0 and math.isfinite(total) else None


def _schema(question: Question) -> dict[str, Any]:
    options = [json.loads(option) for option in question.options]
    fields = {name: {"enum": list(dict.fromkeys(option[name] for option in options))} for name in options[0]}
    schema = {
        "type": "object",
        "properties": fields,
        "required": list(fields),
        "additionalProperties": False,
    }
    return {"type": "json_schema", "json_schema": {"name": "verdict", "strict": True, "schema": schema}}


def _retry_after(header: str | None) -> float:
    try:
        return min(max(float(header or 0.0), 0.0), 60.0)
    except ValueError:
        return 1.0  # a date: a plain second does
