"""First tokens in the serving benchmark, counted alike for every server."""

from typing import Any

import pytest

from benchmarks.serving import first_columns, kinds_of

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("delta", "kinds"),
    [
        ({"role": "assistant", "content": ""}, ["event"]),
        ({"reasoning_content": "a", "reasoning": "a"}, ["event", "thinking"]),
        ({"reasoning": "a"}, ["event", "thinking"]),
        ({"content": "a"}, ["event", "content"]),
        ({"reasoning": "", "content": "a"}, ["event", "content"]),
        (None, ["event"]),
    ],
)
def test_an_event_counts_by_the_text_in_it(delta: dict[str, Any] | None, kinds: list[str]) -> None:
    assert kinds_of({"choices": [] if delta is None else [{"delta": delta}]}) == kinds


def test_no_stream_with_such_text_is_a_dash() -> None:
    assert first_columns([]) == ("-", "-", "0")
    assert first_columns([0.3, 0.1, 0.2]) == ("0.200", "0.200", "3")
