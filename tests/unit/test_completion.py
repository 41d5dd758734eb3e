import pytest
from hypothesis import given
from hypothesis import strategies as st

from rapo_ray.models.chat import parse_completion
from rapo_ray.types import Completion, Form

pytestmark = pytest.mark.unit

MALFORMED = [
    ("<think>Trace. Answer.", Form.NO_THINK_END),
    ("", Form.NO_THINK_END),
    ("<think>a</think>b</think>c", Form.NO_THINK_END),
    ("<think><think>a</think>b", Form.NO_THINK_END),
    ("a <think> b</think>c", Form.NO_THINK_END),
    ("<think>a</think>b <think> c", Form.NO_THINK_END),
    ("<think> \n </think>Answer.", Form.EMPTY_TRACE),
    ("<think></think>", Form.EMPTY_TRACE),
    ("<think>Trace.</think> \n", Form.EMPTY_ANSWER),
]
WELL_FORMED = [
    "<think>\nFirst line.\nStill first.\n\nSecond.\n</think>\n\nAn answer.\n",
    *(f"{lead}Trace.</think>Answer." for lead in ("", "<think>", "  \n<think>\n")),
]


def test_a_well_formed_completion_is_parsed() -> None:
    completion = parse_completion(WELL_FORMED[0], False)
    assert completion == Completion(
        Form.OK, "First line.\nStill first.", "First line.\nStill first.\n\nSecond.", "An answer."
    )


@pytest.mark.parametrize("text", WELL_FORMED[1:])
def test_leading_think_is_optional(text: str) -> None:
    completion = parse_completion(text, False)
    assert (completion.form, completion.trace, completion.answer) == (Form.OK, "Trace.", "Answer.")


@pytest.mark.parametrize("blank", ["\n\n", "\n  \t\n", "\r\n\r\n"])
def test_trace_ends_at_a_blank_line(blank: str) -> None:
    completion = parse_completion(f"<think>One.{blank}Two.</think>Answer.", False)
    assert (completion.trace, completion.thinking) == ("One.", f"One.{blank}Two.")


@pytest.mark.fault(12)
@pytest.mark.parametrize(("text", "form"), MALFORMED)
def test_malformed_forms(text: str, form: Form) -> None:
    assert parse_completion(text, False).form is form


@pytest.mark.fault(12)
def test_truncated_comes_before_every_other_form() -> None:
    assert parse_completion("<think>Trace.</think>Answer.", True) == Completion(
        Form.TRUNCATED, "Trace.", "Trace.", "Answer."
    )
    assert parse_completion("<think>Half a tr", True) == Completion(Form.TRUNCATED, "Half a tr", "Half a tr", "")


def test_parts_of_a_malformed_completion_are_kept() -> None:
    completion = parse_completion("<think>Trace.\n\nMore.</think>b</think>c", False)
    assert (completion.trace, completion.thinking, completion.answer) == ("Trace.", "Trace.\n\nMore.", "b</think>c")


PIECES = st.sampled_from(["<think>", "</think>", "\n\n", " ", "Word.", "\x00", "\ud800"])


@given(st.lists(st.one_of(PIECES, st.text(max_size=5))).map("".join), st.booleans())
def test_ok_means_exactly_one_end_and_both_parts(text: str, truncated: bool) -> None:
    completion = parse_completion(text, truncated)
    if truncated:
        assert completion.form is Form.TRUNCATED
    if completion.form is Form.OK:
        assert text.count("</think>") == 1
        assert completion.trace and completion.answer
        assert completion.thinking.startswith(completion.trace)
