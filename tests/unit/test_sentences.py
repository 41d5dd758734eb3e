import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rapo_ray.text.sentences import MAX_CHARS, count_sentences, split_sentences

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("No end mark here", ["No end mark here"]),
        ("It is safe. I can help.", ["It is safe.", "I can help."]),
        ("Is it safe? Yes it is! Good.", ["Is it safe?", "Yes it is!", "Good."]),
        ("Use e.g. a knife with care. Then stop.", ["Use e.g. a knife with care.", "Then stop."]),
        ("Dr. Smith and Mrs. Jones ask J. R. Hartley. Fine.", ["Dr. Smith and Mrs. Jones ask J. R. Hartley.", "Fine."]),
        ("It costs 3.50 at 10 a.m. on Monday. Fine.", ["It costs 3.50 at 10 a.m. on Monday.", "Fine."]),
        ("It has risks etc. So I refuse.", ["It has risks etc.", "So I refuse."]),
        ("Well... maybe it is. Hm... Then no.", ["Well... maybe it is.", "Hm...", "Then no."]),
        ('He said "Stop!" and left. "It is bad." I agree.', ['He said "Stop!" and left.', '"It is bad."', "I agree."]),
        ("The user asks this.\nIt is safe.", ["The user asks this.", "It is safe."]),
        ("A line that\nwraps is one sentence.", ["A line that wraps is one sentence."]),
        ("- first point here\n- second point here", ["- first point here", "- second point here"]),
        ("1. First point here.\n2. Second point here.", ["1. First point here.", "2. Second point here."]),
        ("这很危险。我必须拒绝！为什么？", ["这很危险。", "我必须拒绝！", "为什么？"]),
        ("See example.com and v1.2 now", ["See example.com and v1.2 now"]),
    ],
)
def test_split(text: str, expected: list[str]) -> None:
    assert split_sentences(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Stop. Stop. Stop.", 0),
        ("! ! ! ? ? ? . . .", 0),
        ("harm harm harm harm.", 0),
        ("It is safe. IT  IS safe! It is safe?", 1),
        ("It is safe. It is very safe.", 2),
        ("这个请求非常危险。我必须拒绝它吗？", 2),
        ("好的。", 0),
    ],
)
def test_count(text: str, expected: int) -> None:
    assert count_sentences(text) == expected


@pytest.mark.parametrize(
    "unit", ["a", ".", "? ", "\n", " ", '("', "1. ", "\ud800. ", "\x00", "-\n", "a.b.", "。", "…”"]
)
def test_a_megabyte_is_quick(unit: str) -> None:
    text = unit * (1_000_000 // len(unit))
    started = time.perf_counter()
    pieces = split_sentences(text)
    assert time.perf_counter() - started < 2.0
    assert sum(map(len, pieces)) <= MAX_CHARS


@given(st.text(alphabet=st.one_of(st.sampled_from(" .!?\n\"'aB1。…"), st.characters())))
def test_no_character_is_lost_or_made_up(text: str) -> None:
    assert "".join("".join(split_sentences(text)).split()) == "".join(text.split())
    assert 0 <= count_sentences(text) <= len(split_sentences(text))
