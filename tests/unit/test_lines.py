import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rapo_ray.data.files import read_table
from rapo_ray.judging.cache import JudgementStore
from rapo_ray.text.lines import LineReader, split_lines, whole_lines
from tests.checkout import ROOT

pytestmark = pytest.mark.unit

NO_ENDS = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"  # str.splitlines cuts at each


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", []),
        ("a", ["a"]),
        ("a\n", ["a"]),
        ("a\nb", ["a", "b"]),
        ("a\r\nb\rc\n\nd", ["a", "b", "c", "", "d"]),
        ("\n\r", ["", ""]),
        (f"a{NO_ENDS}b\n", [f"a{NO_ENDS}b"]),
    ],
)
def test_lines(text: str, lines: list[str]) -> None:
    assert split_lines(text) == lines


def test_a_torn_line_is_not_whole() -> None:
    assert whole_lines("a\r\nb\nto") == ["a", "b"]
    assert whole_lines("torn") == []


@given(
    st.text(alphabet=st.one_of(st.sampled_from("\r\n" + NO_ENDS + "a\u00fc\U0001f600"), st.characters(codec="utf-8"))),
    st.data(),
)
def test_a_stream_gives_the_lines_of_its_text_wherever_its_pieces_end(text: str, data: st.DataObject) -> None:
    for whole in (text, text.encode()):
        cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)))))
        reader = LineReader()
        lines = []
        for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
            lines += reader.feed(whole[start:end])
        assert lines + reader.finish() == split_lines(text)


def test_a_line_is_there_as_soon_as_its_end_begins() -> None:
    reader = LineReader()
    assert reader.feed(b"a\r") == ["a"]
    assert reader.feed("") == []
    assert reader.feed(b"\nb") == []
    assert reader.feed("\n") == ["b"]
    assert reader.finish() == []


def test_bytes_that_are_no_text_cost_no_line() -> None:
    reader = LineReader()
    assert reader.feed(b"a\xff\nb\xc3") == ["a\ufffd"]
    assert reader.finish() == ["b\ufffd"]


def test_json_lines_keep_their_separators(tmp_path: Path) -> None:
    table = tmp_path / "rows.jsonl"
    text = "a\u2028b\x85c"
    table.write_bytes(f'{{"text": "{text}"}}\r\n{{"text": "d"}}\r{{"text": "e"}}'.encode())
    assert [row["text"] for row in read_table(table)] == [text, "d", "e"]
    key = "ab" * 32
    reply = {"key": key, "text": text, "tokens": 1, "probabilities": None}
    (tmp_path / "cache.jsonl").write_text(json.dumps(reply, ensure_ascii=False) + "\n", encoding="utf-8")
    cached = JudgementStore(tmp_path, "judge").get(key)
    assert cached is not None and cached.text == text


def test_no_reader_of_data_cuts_lines_in_another_way() -> None:
    """Only words of an error, of a program's output or of this machine may be cut by str.splitlines.

    `readline` of bytes ends at a newline alone: the judgement cache reads one line at its offset.
    """
    allowed = {
        "actors/ray_calls.py", "actors/sft.py", "rapo_ray/config/base.py", "rapo_ray/data/files.py",
        "rapo_ray/data/jailbreak_artifacts.py", "rapo_ray/judging/cache.py", "rapo_ray/models/embedded.py",
        "rapo_ray/models/folder.py", "rapo_ray/serving/deploy.py", "rapo_ray/simulation/profile.py",
    }  # fmt: skip
    paths = [path for top in ("rapo_ray", "actors") for path in (ROOT / top).rglob("*.py")]
    cutting = re.compile(r"\.(?:splitlines|iter_lines|aiter_lines|readlines?)\(")
    assert {str(path.relative_to(ROOT)) for path in paths if cutting.search(path.read_text("utf-8"))} <= allowed
