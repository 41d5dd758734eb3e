"""Demonstrations: read, or refused by row; written and read back; tokenised as the policy will see them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from rapo_ray.data.quickstart_set import Demonstration, load_demonstrations
from rapo_ray.errors import DataError
from rapo_ray.models.chat import PLAIN, ChatFormat
from rapo_ray.warmup.demonstrations import read_demonstrations, tokenize, write_demonstrations
from tests.make import OK_TEXT, make_prompt

pytestmark = pytest.mark.unit


def write(folder: Path, *rows: dict[str, object]) -> Path:
    path = folder / "demonstrations.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def row(**more: object) -> dict[str, object]:
    return {"id": "7", "text": "How do I bake bread?", "harmful": False, "level": 1, "completion": OK_TEXT, **more}


def test_without_a_path_the_packaged_ones_are_read() -> None:
    assert read_demonstrations(None) == list(load_demonstrations())


def test_a_file_is_read(tmp_path: Path) -> None:
    path = write(tmp_path, row(), row(id="8", harmful="true", level=None))
    first, second = read_demonstrations(path)
    assert (first.prompt.text, first.prompt.harmful, first.prompt.level) == ("How do I bake bread?", False, 1)
    assert (second.prompt.harmful, second.prompt.level) == (True, None)
    assert first.completion == OK_TEXT


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (row(text=""), "text is empty"),
        (row(text=None), "text is missing"),
        (row(harmful="perhaps"), "harmful is 'perhaps', not true or false"),
        (row(level=4), "level is 4, not 1, 2, 3 or empty"),
        (row(completion=3), "completion is int, not text"),
        (row(completion="Just an answer."), "the completion is not `<think>` trace `</think>` answer (no_think_end)"),
        (row(completion="<think>trace</think>"), "(empty_answer)"),
        (row(completion="<think>\n</think>answer"), "(empty_trace)"),
    ],
)
def test_a_bad_row_is_refused_by_file_and_number(bad: dict[str, object], why: str, tmp_path: Path) -> None:
    path = write(tmp_path, row(), bad)
    with pytest.raises(DataError) as caught:
        read_demonstrations(path)
    assert str(caught.value).startswith(f"{path}: row 2: ")
    assert why in str(caught.value)


@pytest.mark.parametrize("column", ["text", "harmful", "completion"])
def test_a_missing_column_is_named(column: str, tmp_path: Path) -> None:
    path = write(tmp_path, {name: value for name, value in row().items() if name != column})
    with pytest.raises(DataError, match=f"no column '{column}'"):
        read_demonstrations(path)


def test_an_empty_or_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no rows"):
        read_demonstrations(write(tmp_path))
    with pytest.raises(DataError, match="no such file"):
        read_demonstrations(tmp_path / "nowhere.jsonl")


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    originals = [
        Demonstration(make_prompt(1, True, 3, 'Line\u2028break, 言 and "quotes"'), OK_TEXT),
        Demonstration(make_prompt(2, False, None), OK_TEXT + "\n\nÜber."),
    ]
    write_demonstrations(originals, path)
    read = read_demonstrations(path)
    for before, after in zip(originals, read, strict=True):
        assert after.completion == before.completion
        assert (after.prompt.text, after.prompt.harmful, after.prompt.level) == (
            before.prompt.text,
            before.prompt.harmful,
            before.prompt.level,
        )


CHAT = replace(PLAIN, end="\0", end_id=0)


class Characters:
    """A tokenizer with one token per character, whose chat template may open the thinking."""

    def __init__(self, opening: str = "") -> None:
        self.opening = opening
        self.arguments: dict[str, str] = {}

    def apply_chat_template(
        self, messages: list[dict[str, str]], *, add_generation_prompt: bool, return_dict: bool, **arguments: str
    ) -> list[int]:
        self.arguments = arguments
        assert add_generation_prompt
        assert not return_dict
        turns = "".join(f"[{message['role']}]{message['content']}" for message in messages)
        return self.encode(f"{turns}[assistant]{self.opening}", add_special_tokens=False)

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        assert not add_special_tokens
        return [ord(character) for character in text]

    def decode(self, tokens: list[int]) -> str:
        return "".join(map(chr, tokens))


def split(tokenizer: Characters, system_prompt: str | None = None, chat: ChatFormat = CHAT) -> tuple[str, str]:
    """Prompt and completion as the policy will see them, without the end of turn."""
    (sequence,) = tokenize([Demonstration(make_prompt(text="Bread?"), OK_TEXT)], tokenizer, system_prompt, chat)
    assert sequence.completion[-1] == chat.end_id
    assert (sequence.advantage, sequence.rollout_logprobs) == (0.0, ())
    return tokenizer.decode(list(sequence.prompt)), tokenizer.decode(list(sequence.completion[:-1]))


def test_the_completion_follows_the_chat_prompt() -> None:
    assert split(Characters()) == ("[user]Bread?[assistant]", OK_TEXT)


def test_a_system_prompt_comes_first_and_an_empty_one_is_one_too() -> None:
    assert split(Characters(), "Be kind.")[0] == "[system]Be kind.[user]Bread?[assistant]"
    assert split(Characters(), "")[0] == "[system][user]Bread?[assistant]"


@pytest.mark.parametrize(("opening", "lead"), [("<think>", "\n"), ("<think>\n", "")])
def test_a_template_that_opens_the_thinking_is_not_doubled(opening: str, lead: str) -> None:
    prompt, completion = split(Characters(opening), chat=replace(CHAT, opened=True, lead=lead))
    assert prompt.endswith(opening)
    assert completion == OK_TEXT.removeprefix(opening)


def test_a_template_that_takes_no_system_turn_gets_its_text_before_the_user_s() -> None:
    prompt, _ = split(Characters(), "Be kind.", replace(CHAT, system=False))
    assert prompt == "[user]Be kind.\n\nBread?[assistant]"


def test_the_marks_and_arguments_of_the_format_take_the_place_of_the_plain_ones() -> None:
    tokenizer = Characters()
    chat = replace(CHAT, opening="[T]", closing="[/T]", answer_start="<a>", answer_end="</a>", on={"effort": "high"})
    _, completion = split(tokenizer, chat=chat)
    trace, answer = OK_TEXT.removeprefix(PLAIN.opening).split(PLAIN.closing)
    assert completion == f"[T]{trace}[/T]<a>{answer}</a>"
    assert tokenizer.arguments == {"effort": "high"}


def test_each_demonstration_is_one_sequence_in_order() -> None:
    demonstrations = [Demonstration(make_prompt(number), OK_TEXT) for number in range(3)]
    sequences = tokenize(demonstrations, Characters(), None, CHAT)
    texts = [Characters().decode(list(sequence.tokens)) for sequence in sequences]
    assert [f"text {number}[assistant]" in text for number, text in enumerate(texts)] == [True] * 3


def test_all_unusable_demonstrations_are_named_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, row(text=""), row(), row(level=4))
    with pytest.raises(
        DataError, match=r"jsonl: row 1: text is empty; row 3: level is 4, not 1, 2, 3 or empty; fix or"
    ):
        read_demonstrations(path)
