"""The two-step synthesis with a scripted writer: its drafts, its demonstrations, and the dropped ones by reason."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from rapo_ray.errors import DataError
from rapo_ray.models.chat import PLAIN, ChatFormat, parse_completion
from rapo_ray.types import Draft, Form, GeneratedText, Prompt
from rapo_ray.warmup.synthesis import INSTRUCTION, LENGTH_BY_LEVEL, OPENING, synthesise
from tests.make import make_prompt

pytestmark = pytest.mark.unit

TRACE = "This asks about bread. Nothing in it is risky."
ENDING = "I will help.\n</think>\n\nMix flour and water."


def wrote(trace: str = TRACE, truncated: bool = False) -> GeneratedText:
    """A first reply: the model thinks, then writes the requested trace."""
    return GeneratedText(f"<think>how do I write this</think>\n\n{trace}", truncated)


class Writer:
    """A model that answers the first call with traces and the second, behind what it is given, with endings."""

    def __init__(
        self, traces: list[GeneratedText], endings: list[GeneratedText] | Callable[[int], list[GeneratedText]]
    ) -> None:
        self.traces = traces
        self.endings = endings
        self.calls: list[list[Draft]] = []

    def __call__(self, drafts: list[Draft]) -> list[GeneratedText]:
        self.calls.append(drafts)
        if len(self.calls) == 1:
            return self.traces
        endings = self.endings(len(drafts)) if callable(self.endings) else self.endings
        return [
            replace(ending, text=PLAIN.begin(draft.thinking or "") + ending.text)
            for draft, ending in zip(drafts, endings, strict=True)
        ]


def good_endings(count: int) -> list[GeneratedText]:
    return [GeneratedText(ENDING, False)] * count


def test_a_demonstration_is_the_opening_the_trace_and_the_model_s_continuation() -> None:
    writer = Writer([wrote()], good_endings)
    prompt = make_prompt(text="How do I bake bread?")
    (demonstration,), dropped = synthesise([prompt], writer, "Be kind.", min_chars=10)
    assert demonstration.prompt is prompt
    assert demonstration.completion == f"<think>\nOkay, {TRACE}\n\n{ENDING}"
    completion = parse_completion(demonstration.completion, truncated=False)
    assert (completion.form, completion.trace) == (Form.OK, f"Okay, {TRACE}")
    assert set(dropped.values()) == {0}


def test_the_second_draft_continues_from_the_trace_under_the_run_s_system_prompt() -> None:
    writer = Writer([wrote()], good_endings)
    synthesise([make_prompt(text="How?")], writer, "Be kind.", min_chars=10)
    assert writer.calls[1] == [Draft("Be kind.", "How?", f"{OPENING}{TRACE}\n\n")]


@pytest.mark.parametrize(
    ("harmful", "level", "requested"),
    [(True, 1, 1), (True, 2, 2), (True, 3, 3), (True, None, 3), (False, None, 1), (False, 3, 1)],
)
def test_the_first_draft_asks_for_the_length_of_the_level(harmful: bool, level: int | None, requested: int) -> None:
    writer = Writer([wrote()], good_endings)
    synthesise([make_prompt(harmful=harmful, level=level, text="{length} of bread?")], writer, None, min_chars=10)
    (draft,) = writer.calls[0]
    assert (draft.system, draft.user, draft.thinking) == (
        INSTRUCTION.format(length=LENGTH_BY_LEVEL[requested]),
        "{length} of bread?",
        None,
    )


def test_a_trace_becomes_one_paragraph() -> None:
    writer = Writer([wrote("One thing.\n\nAnother\tthing.  ")], good_endings)
    (demonstration,), _ = synthesise([make_prompt()], writer, None, min_chars=10)
    assert demonstration.completion.startswith(f"<think>\n{OPENING}One thing. Another thing.\n\n")


def test_bad_replies_are_dropped_and_counted_by_reason() -> None:
    prompts: list[Prompt] = [make_prompt(number) for number in range(8)]
    traces = [
        wrote(truncated=True),
        GeneratedText("no end of thinking " * 9, False),
        wrote("Short."),
        wrote(""),
        wrote("A first good trace."),
        wrote("A second good trace."),
        wrote("A third good trace."),
        wrote("A fourth good trace."),
    ]
    endings = [
        GeneratedText(ENDING, True),
        GeneratedText("never closes its thinking", False),
        GeneratedText("closes\n</think>\n", False),
        GeneratedText(ENDING, False),
    ]
    demonstrations, dropped = synthesise(prompts, Writer(traces, endings), None, min_chars=10)
    assert [demonstration.prompt.id for demonstration in demonstrations] == ["s/7"]
    assert "A fourth good trace." in demonstrations[0].completion
    assert dropped == {"trace unfinished": 1, "trace truncated": 1, "trace short": 2, "completion malformed": 3}
    assert len(demonstrations) + sum(dropped.values()) == len(prompts)


def test_the_shortest_trace_allowed_is_kept() -> None:
    for min_chars, remaining in ((len(TRACE), 1), (len(TRACE) + 1, 0)):
        writer = Writer([wrote(), wrote(TRACE * 2)], good_endings)
        demonstrations, _ = synthesise([make_prompt(0), make_prompt(1)], writer, None, min_chars)
        assert len(demonstrations) == remaining + 1


def test_nothing_left_is_an_error_that_says_why() -> None:
    with pytest.raises(DataError) as caught:
        synthesise([make_prompt(0), make_prompt(1)], Writer([wrote("No."), wrote("No.")], []), None, min_chars=10)
    assert "none of 2 prompts" in str(caught.value)
    assert "'trace short': 2" in str(caught.value)


def test_a_writer_that_loses_a_draft_is_detected() -> None:
    with pytest.raises(ValueError, match="zip"):
        synthesise([make_prompt(0), make_prompt(1)], Writer([wrote()], good_endings), None, min_chars=10)


def test_a_demonstration_that_quotes_a_mark_of_our_files_is_dropped() -> None:
    special = ChatFormat(opening="[THINK]", closing="[/THINK]", shown=True)

    def write(drafts: list[Draft]) -> list[GeneratedText]:
        if drafts[0].thinking is None:
            return [GeneratedText(f"[THINK]how[/THINK]{TRACE}", False)] * len(drafts)
        answers = ["Mix flour and water.", "The tag is </think>, with a slash."]
        return [
            GeneratedText(f"{special.begin(draft.thinking or '')}I will help.[/THINK]{answer}", False)
            for draft, answer in zip(drafts, answers, strict=True)
        ]

    prompts = [make_prompt(0), make_prompt(1)]
    (demonstration,), dropped = synthesise(prompts, write, None, min_chars=10, chat=special)
    assert demonstration.prompt is prompts[0]
    assert dropped["completion malformed"] == 1
