"""Parsing of a completion into trace, thinking and answer."""

import re

from rapo_ray.types import Completion, Form

THINK_START = "<think>"
THINK_END = "</think>"

_BLANK_LINE = re.compile(r"\n[^\S\n]*\n")


def parse_completion(text: str, truncated: bool) -> Completion:
    """Parse a completion and classify its form; each part is filled as far as it exists. Never raises."""
    body = text.lstrip().removeprefix(THINK_START)
    head, _, tail = body.partition(THINK_END)
    thinking, answer = head.strip(), tail.strip()
    trace = _BLANK_LINE.split(thinking, maxsplit=1)[0].strip()
    return Completion(_form(body, trace, answer, truncated), trace, thinking, answer)


def _form(body: str, trace: str, answer: str, truncated: bool) -> Form:
    if truncated:
        return Form.TRUNCATED
    if body.count(THINK_END) != 1 or THINK_START in body:
        return Form.NO_THINK_END
    if not trace:
        return Form.EMPTY_TRACE
    return Form.OK if answer else Form.EMPTY_ANSWER
