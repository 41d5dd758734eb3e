"""An OpenAI-compatible HTTP judge: its request, its reply and the addresses that it may have.

A host in a private network (RFC 1918, loopback, link-local) is allowed only if the config says so: the judge must not
be a way into the cluster.
"""

import asyncio
import ipaddress
import json
import math
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rapo_ray.config.judge import JudgeConfig
from rapo_ray.config.request import JudgeRequestConfig
from rapo_ray.engines.http_chat import ChatEndpoint, EndpointSettings, ReplyTooLarge, request_body
from rapo_ray.errors import ConfigError
from rapo_ray.judging.questions import CHOICE_TOKENS, JudgeFailure, Question, Reply
from rapo_ray.types import Status

LABEL_LOGPROBS = 20  # OpenAI's maximum


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """The endpoint of an HTTP judge, the model there, and the fields of a request."""

    endpoint: EndpointSettings
    model: str
    max_tokens: int = 512  # of a free-text reply
    thinking_tokens: int = 0  # added to every limit
    template_kwargs: dict[str, Any] = field(default_factory=dict)
    request: JudgeRequestConfig = field(default_factory=JudgeRequestConfig)


def check_url(url: str, allow_private: bool) -> None:
    """Raise ConfigError, naming the reason, for a URL that a judge may not have."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"judge url {url!r} is not an http(s) URL")
    if parts.username or parts.password:
        raise ConfigError("the judge url contains user or password; give a token file instead (judge.*.token_file)")
    if allow_private:
        return
    try:
        addresses = {info[4][0] for info in socket.getaddrinfo(parts.hostname, parts.port or 443)}
    except OSError as error:
        raise ConfigError(f"judge url {url!r}: cannot resolve {parts.hostname}: {error}") from error
    private = sorted(str(address) for address in addresses if not ipaddress.ip_address(address).is_global)
    if private:
        raise ConfigError(
            f"judge url {url!r} leads to {private[0]}, inside a private network; judge.*.allow_private=true allows that"
        )
    if parts.scheme != "https":
        raise ConfigError(f"judge url {url!r} would send prompts in clear text over the internet; use https")


def read_token(path: Path | None) -> str | None:
    """The token in a file; raises ConfigError, which never shows the content, where the file has no single token."""
    if path is None:
        return None
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the judge's token file {path}: {type(error).__name__}") from None
    if not token or any(character.isspace() for character in token):
        raise ConfigError(f"the judge's token file {path} must hold one token and nothing else")
    return token


def check_judges(config: JudgeConfig) -> None:
    """Raise ConfigError for an http judge with a URL that is not allowed, or without a usable token."""
    for judge in config.named().values():
        if judge.url is not None:
            check_url(judge.url, judge.allow_private)
            read_token(judge.token_file)


class HttpAsk:
    """An `Ask` over a chat-completions endpoint."""

    def __init__(self, settings: HttpSettings, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._settings = settings
        self._endpoint = ChatEndpoint(settings.endpoint, sleep)

    async def __call__(self, question: Question) -> Reply:
        """Reply to the question, with retries; raises JudgeFailure or EngineError. The caller sets the deadline."""
        try:
            content = await self._endpoint.post(self._body(question))
        except ReplyTooLarge as error:
            raise JudgeFailure(Status.PARSE, str(error)) from None
        return self._read(content, question)

    def limit(self, question: Question) -> int:
        """Token limit of a reply and of the thinking before it."""
        reply = CHOICE_TOKENS if question.style == "choice" else self._settings.max_tokens
        return (1 if question.one_token else reply) + self._settings.thinking_tokens

    async def close(self) -> None:
        """Close its connections."""
        await self._endpoint.close()

    def _body(self, question: Question) -> dict[str, Any]:
        settings = self._settings
        messages: list[dict[str, str]] = [
            {"role": message.role, "content": message.content} for message in question.messages
        ]
        temperature, limit = settings.request.temperature, self.limit(question)
        body = request_body(settings.model, messages, settings.request, limit, temperature)
        if settings.template_kwargs:
            body["chat_template_kwargs"] = settings.template_kwargs
        if question.one_token:
            body |= {"logprobs": True, "top_logprobs": LABEL_LOGPROBS}
        if question.style == "choice":
            body["response_format"] = _schema(question)
        return body

    def _read(self, content: bytes, question: Question) -> Reply:
        """The reply in a chat completion; one that the limit cut is truncated, except for a letter, which is whole."""
        try:
            body = json.loads(content)
            choice = body["choices"][0]
            text = choice["message"].get("content") or ""
            tokens = int((body.get("usage") or {}).get("total_tokens") or 0)
            letter = question.one_token and not self._settings.thinking_tokens
            cut = choice.get("finish_reason") == "length" and not letter
            if not isinstance(text, str):
                raise TypeError
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
            raise JudgeFailure(Status.PARSE, "the judge's HTTP reply is not a chat completion") from None
        if not text and choice["message"].get("refusal"):
            raise JudgeFailure(Status.PARSE, "the judge refused to reply")
        return Reply(text.strip(), tokens, _probabilities(choice, question), truncated=cut)


def _probabilities(choice: dict[str, Any], question: Question) -> tuple[float, ...] | None:
    """The probability of each label among all labels, from the log-probs of the last token that is a label."""
    if not question.one_token:
        return None
    try:
        labels = [one for one in choice["logprobs"]["content"] if one["token"].strip() in question.replies]
        top = [(item["token"].strip(), math.exp(float(item["logprob"]))) for item in labels[-1]["top_logprobs"]]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError):
        return None
    weights = [sum(weight for token, weight in top if token == label) for label in question.replies]
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
