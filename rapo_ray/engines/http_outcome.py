"""Outcome of one prompt at an endpoint: answered, refused in a field of its own, or stopped by a filter (pure).

A filter shows as an error with a code of its own (OpenAI, Azure, DashScope and others), as an error inside of a reply
(routers), or as the reason for which a reply ends.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

FILTER_CODES = frozenset(
    (
        "contentfilter", "contentfiltered", "contentpolicyviolation", "responsibleaipolicyviolation", "invalidprompt",
        "moderationblocked", "contentmoderation", "moderation", "datainspectionfailed", "safety", "prohibitedcontent",
        "blocklist", "spii", "guardrailintervened", "sensitive", "sensitivecontent", "contentblocked",
        "sensitivecontentdetected", "inputtextsensitivecontentdetected", "outputtextsensitivecontentdetected",
    )
)  # fmt: skip
REFUSAL_CODES = frozenset(("refusal",))  # a reason of the model's own to end
_SENTENCE = re.compile(
    r"content (exists risk|management policy)|violat\w+ (\w+ )?(usage|content) (polic|guideline)|safety system"
    r"|ContentPolicyViolationError",  # a gateway's class of errors
    re.IGNORECASE,
)
_KEYS = ("code", "type", "status", "reason", "error", "innererror", "detail", "message", "metadata")
DEPTH = 6  # of an error inside of others


def is_filtered(content: bytes) -> bool:
    """True for the body of an error by which a content filter refuses a prompt or its answer."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return False
    return any(_plain(text) in FILTER_CODES or _SENTENCE.search(text) is not None for text in _texts(body, DEPTH))


def is_filter_reason(finish_reason: object) -> bool:
    """True for a `finish_reason` of a content filter."""
    return isinstance(finish_reason, str) and _plain(finish_reason.partition(":")[0]) in FILTER_CODES


def is_refusal_reason(finish_reason: object) -> bool:
    """True for a `finish_reason` of a model that refused."""
    return isinstance(finish_reason, str) and _plain(finish_reason) in REFUSAL_CODES


def _plain(code: str) -> str:
    return re.sub(r"[^a-z]", "", code.lower())


def _texts(body: Any, depth: int) -> Iterator[str]:
    """The texts that name an error, in the places where endpoints put them."""
    if isinstance(body, str):
        yield body
    elif isinstance(body, list) and depth:
        for item in body:
            yield from _texts(item, depth - 1)
    elif isinstance(body, dict) and depth:
        for key in _KEYS:
            yield from _texts(body.get(key), depth - 1)
