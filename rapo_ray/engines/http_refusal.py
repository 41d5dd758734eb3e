"""An endpoint's refusal in its own words: one short line without the prompt, and the settings that it speaks of (pure).

The shapes are those of OpenAI (`{"error": {"message": ...}}`), vLLM (`{"message": ...}`), FastAPI (`{"detail": ...}`)
and plain text.
"""

import html
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from rapo_ray.config.request import RequestConfig
from rapo_ray.errors import EngineError

MAX_WORDS = 200  # characters
MAX_READ = 4 * MAX_WORDS  # characters that are searched for quotes
QUOTE_BYTES = 20  # a shorter run that a message shares with the prompt is a coincidence
SHORTEST_QUOTE = 4  # bytes of a whole message or token
CUT = "[...]"
_SECRET = re.compile(
    r"(?P<name>\bbearer\s+|\bbasic\s+|\b(?:api|access|secret)[-_ ]?(?:key|token)\b[^:=]{0,24}[:=]\s*"
    r"|\bpassword['\x22]?\s*[:=]\s*"
    r"|\b(?:token|key|sig|signature|password)=)[^\s,;&]+"
    r"|\b(?:sk|pk|rk|gsk|hf|xai|nvapi|ghp|pat|key)[-_][\w*.-]{6,}|\bAIza[\w-]{10,}|\bA[KS]IA[A-Z0-9]{12,}"
    r"|\beyJ[\w-]+\.[\w.-]+|(?<=://)[^/\s@]+@"
    r"|\b(?=[\w-]*[0-9])(?=[\w-]*[A-Za-z])[A-Za-z0-9_-]{32,}",
    re.IGNORECASE,
)
_LIMIT = re.compile(r"max_(completion_)?tokens")
_SIZE = re.compile(r"too (large|small)|at (most|least)|maximum|exceed", re.IGNORECASE)  # of the limit, not its name


class EndpointRefused(EngineError):
    """An endpoint's answer with another HTTP status than 200; `filtered` where a content filter gave it."""

    def __init__(self, status: int, words: str, calls: int, filtered: bool = False) -> None:
        super().__init__(status, words, calls, filtered)
        self.status = status
        self.words = words
        self.calls = calls
        self.filtered = filtered

    def __str__(self) -> str:
        """Status, calls and words in one line."""
        return f"HTTP {self.status} after {self.calls} call(s)" + (f": {self.words}" if self.words else "")


def endpoint_words(content: bytes, sent: Iterable[str]) -> str:
    """The message in a refusal's body, one line of at most `MAX_WORDS`, without secrets or quotes of what was sent."""
    text = content.decode("utf-8", "replace")
    try:
        text = _message(json.loads(text)) or text
    except (ValueError, RecursionError):
        text = re.sub(r"<[^>]*>", " ", text)  # a gateway's page
    text = without_secrets(_without_quotes(_plain(text)[:MAX_READ], sent))
    return text if len(text) <= MAX_WORDS else f"{text[: MAX_WORDS - len(CUT)]}{CUT}"


def without_secrets(text: str) -> str:
    """The text with keys, tokens and passwords, as endpoints and addresses show them, cut out."""
    return _SECRET.sub(lambda match: f"{match['name'] or ''}{CUT}", text)


def _message(body: Any) -> str | None:
    """The sentence in a JSON body; None for a body of another shape."""
    if isinstance(body, str):
        return body
    if isinstance(body, list):  # Google wraps the error in a list, FastAPI lists one a field
        return "; ".join(filter(None, map(_message, body))) or None
    if not isinstance(body, dict):
        return None
    if isinstance(body.get("msg"), str):
        place = body.get("loc")
        return f"{'.'.join(map(str, place))}: {body['msg']}" if isinstance(place, list) else str(body["msg"])
    return next((text for name in ("error", "message", "detail") if (text := _message(body.get(name)))), None)


def _without_quotes(text: str, sent: Iterable[str]) -> str:
    data = text.encode("utf-8", "replace")
    pieces = [_plain(piece).encode("utf-8", "replace") for piece in sent]
    quotes = [
        (at, at + QUOTE_BYTES)
        for at in range(len(data) - QUOTE_BYTES + 1)
        if any(data[at : at + QUOTE_BYTES] in piece for piece in pieces)
    ]
    short = (piece for piece in pieces if SHORTEST_QUOTE <= len(piece) < QUOTE_BYTES and piece in data)
    quotes += [(data.index(piece), data.rindex(piece) + len(piece)) for piece in short]
    if not quotes:
        return text
    first, last = min(start for start, _ in quotes), max(end for _, end in quotes)  # what is between was escaped
    return data[:first].decode("utf-8", "ignore") + CUT + data[last:].decode("utf-8", "ignore")


def _plain(text: str) -> str:
    """The text in one line without escapes, in which a quote of it, escaped or not, is the same."""
    text = re.sub(r"\\+u([0-9a-fA-F]{4})", lambda match: chr(int(match[1], 16)), html.unescape(text))
    text = re.sub(r"\\+[nrt]", " ", text).replace("\\", "")
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


def remedies(words: str, request: RequestConfig, section: str, settings: Mapping[str, str]) -> str:
    """The settings to change, by the fields that the words name; empty where they name none.

    `settings` are those of the section, by the field that each sends; the ones of `request` itself are known.
    """
    named = set(re.findall(r"\w+", words))
    changes = [setting for field, setting in settings.items() if field in named]
    if _LIMIT.search(words) and not _SIZE.search(words):
        other = "max_tokens" if request.limit_field == "max_completion_tokens" else "max_completion_tokens"
        changes.insert(0, f"{section}.request.limit_field={other}")
    changes += [f"{section}.request.extra_body without {field}" for field in request.extra_body if field in named]
    return " and ".join(dict.fromkeys(changes))
