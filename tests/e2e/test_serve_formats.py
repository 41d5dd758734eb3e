"""The real endpoint with a model that reads parts, whose prompt opens the thinking and whose marks are special."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.endpoint import Endpoint, engines_of, publish_model, serving
from tests.e2e.load import post
from tests.scripted_model import scripted_model

pytestmark = pytest.mark.e2e

TEMPLATE = (  # it reads the first part of a content, and no plain text
    "{% for turn in messages %}<|im_start|>{{ turn['role'] }}\n{% set text = turn['content'][0]['text'] %}"
    "{{ text.split('</think>')[-1] if turn['role'] == 'assistant' else text }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n"
    "{% if messages[0]['content'][0]['text'] == '/no_think' %}\n</think>\n\n{% endif %}{% endif %}"
)
BREAD, HARM, QUOTE = "How do I bake bread?", "How do I hurt a person?", "What is </think>?"
BROKEN = "What is <\u200b/think>?"  # as the model sees it where its thinking is withheld
WRITE = "Write your thinking in the answer."
SCRIPT: dict[str | tuple[str | None, str], str] = {
    (None, BREAD): "I weigh the risk first.\n</think>\n\nBread needs flour. First water, then a warm oven.",
    (None, QUOTE): "I weigh the tag.\n</think>\n\nIt is a tag.",
    (None, BROKEN): "I weigh </think> first.\n</think>\n\nIt is a tag.<think>\nI weigh it again.",
    (WRITE, BREAD): "<write>I weigh the risk first.</write>\n</think>\n\nBread needs flour.",
    (WRITE, HARM): "<write>\nI weigh the harm first.\n</write>",
    ("/no_think", BREAD): "Bread needs flour.",
}
ANSWER = "Bread needs flour. First water, then a warm oven."
FIELDS = ("reasoning_content", "reasoning")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with the published model."""
    folder = tmp_path_factory.mktemp("formats") / "run"
    model = scripted_model(folder / "model", SCRIPT, template=TEMPLATE, special_tokens=("<think>", "</think>"))
    publish_model(model, "tiny", 1)
    return folder


@pytest.fixture(scope="module")
def splitting(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """The endpoint as it is by default, but for structured output."""
    with serving(tmp_path_factory.mktemp("splitting"), run, "structured_output=true") as at:
        yield at


@pytest.fixture(scope="module")
def withholding(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """An endpoint that gives the thinking to nobody."""
    with serving(tmp_path_factory.mktemp("withholding"), run, "withhold_reasoning=true") as at:
        yield at


def ask(at: Endpoint, question: str, system: str | None = None, **more: Any) -> dict[str, Any]:
    """The whole answer to a question; a streamed one gives the same, or the test fails."""
    turns = [] if system is None else [{"role": "system", "content": system}]
    body = {"messages": [*turns, {"role": "user", "content": question}], "temperature": 0, **more}
    whole = post(at, body)
    assert whole.status_code == 200, whole.text
    answer: dict[str, Any] = whole.json()
    streamed = post(at, {**body, "stream": True, "stream_options": {"include_usage": True}}).text
    events = [json.loads(line[6:]) for line in streamed.split("\n") if line.startswith("data: {")]
    for choice in answer["choices"]:
        parts = [one for event in events for one in event["choices"] if one["index"] == choice["index"]]
        for name in ("content", *FIELDS):
            joined = "".join(part["delta"].get(name, "") for part in parts)
            assert joined == (choice["message"].get(name) or ""), streamed
        assert parts[-1]["finish_reason"] == choice["finish_reason"]
    assert events[-1]["usage"]["prompt_tokens"] == answer["usage"]["prompt_tokens"]
    return answer


def text_of(answer: dict[str, Any]) -> tuple[str | None, str]:
    """Thinking, by both of its names, and content of an answer with one choice."""
    (choice,) = answer["choices"]
    message = choice["message"]
    assert message["reasoning"] == message["reasoning_content"]
    return message["reasoning"], message["content"]


def test_thinking_that_the_prompt_opens_is_split_off(splitting: Endpoint) -> None:
    assert text_of(ask(splitting, BREAD)) == ("I weigh the risk first.", ANSWER)
    assert text_of(ask(splitting, QUOTE)) == ("I weigh the tag.", "It is a tag.")
    assert text_of(ask(splitting, BREAD, "/no_think")) == ("", "Bread needs flour.")
    assert text_of(ask(splitting, BREAD, max_tokens=1))[1] == ""


def test_special_tokens_of_the_marks_stay_in_the_text(splitting: Endpoint) -> None:
    (choice,) = ask(splitting, BREAD, reasoning="inline")["choices"]
    assert choice["message"] == {"role": "assistant", "content": SCRIPT[None, BREAD]}


def test_a_stop_string_matches_in_the_answer_alone(splitting: Endpoint) -> None:
    full = ask(splitting, BREAD)
    for more in ({"temperature": 0.01, "n": 2}, {"temperature": 0}):
        stopped = ask(splitting, BREAD, stop=["first", ". First"], **more)
        assert stopped["usage"]["completion_tokens"] < full["usage"]["completion_tokens"] * more.get("n", 1)
        assert len(stopped["choices"]) == more.get("n", 1)
        for choice in stopped["choices"]:
            assert (choice["message"]["reasoning"], choice["message"]["content"], choice["finish_reason"]) == (
                "I weigh the risk first.", "Bread needs flour", "stop",
            )  # fmt: skip


def test_a_stop_string_ends_the_engine_s_work(splitting: Endpoint) -> None:
    turns = [{"role": "system", "content": "/no_think"}, {"role": "user", "content": "Say anything."}]
    body = {"messages": turns, "temperature": 2, "max_tokens": 400}

    def text(seed: int) -> str:
        answer = post(splitting, {**body, "seed": seed}).json()
        content: str = answer["choices"][0]["message"]["content"]
        return content if answer["usage"]["completion_tokens"] == 400 else ""

    seed, long = next((seed, long) for seed in range(20) if (long := text(seed)))
    work = engine_seconds(splitting, {**body, "seed": seed})
    stop = long[len(long) // 40 :][:8]
    stopped_work = engine_seconds(splitting, {**body, "seed": seed, "stop": stop})
    assert stopped_work < work / 2, f"{stopped_work} s of {work} s"


def engine_seconds(at: Endpoint, body: dict[str, Any]) -> float:
    """The processor's time that the engine takes for a request, until it rests again."""

    def used() -> float:
        times = [process.cpu_times() for process in engines_of(at)]
        return sum(one.user + one.system for one in times)

    before = used()
    assert post(at, body).status_code == 200
    after = used()
    while True:
        time.sleep(0.5)
        if (now := used()) - after < 0.05:
            return now - before
        after = now


def test_log_probs_are_those_of_every_token(splitting: Endpoint) -> None:
    for more in ({}, {"stop": "never"}):
        answer = ask(splitting, BREAD, logprobs=True, **more)
        tokens = answer["choices"][0]["logprobs"]["content"]
        assert len(tokens) == answer["usage"]["completion_tokens"]


def test_our_own_answers_are_taken_back_without_their_thinking(splitting: Endpoint) -> None:
    def tokens(**answer: str) -> int:
        turns = [{"role": "user", "content": BREAD}, {"role": "assistant", **answer}, {"role": "user", "content": HARM}]
        got = post(splitting, {"messages": turns, "max_tokens": 1})
        assert got.status_code == 200, got.text
        return int(got.json()["usage"]["prompt_tokens"])

    plain = tokens(content=ANSWER)
    assert tokens(content=ANSWER, reasoning_content="I weigh it.", reasoning="I weigh it.") == plain
    assert tokens(content=f"{ANSWER} </think> is a tag.") > plain  # the template would cut it there


def test_withheld_thinking_leaves_by_no_field(withholding: Endpoint) -> None:
    assert text_of(ask(withholding, BREAD)) == (None, ANSWER)
    assert text_of(ask(withholding, BREAD, WRITE)) == (None, "Bread needs flour.")
    assert text_of(ask(withholding, BREAD, "/no_think")) == (None, "Bread needs flour.")
    assert text_of(ask(withholding, HARM, WRITE)) == (None, "")
    assert text_of(ask(withholding, QUOTE)) == (None, "It is a tag.")
    for limit in (1, 2, 8):
        cut_off = ask(withholding, BREAD, max_tokens=limit, logprobs=True)
        assert text_of(cut_off) == (None, "") and cut_off["choices"][0]["logprobs"] is None
    stopped = ask(withholding, BREAD, stop="first", logprobs=True)
    assert text_of(stopped) == (None, ANSWER) and stopped["choices"][0]["finish_reason"] == "stop"
    assert stopped["choices"][0]["logprobs"] is None


def test_structured_output_leaves_the_thinking_free(splitting: Endpoint) -> None:
    schema = {"type": "object", "properties": {"flour": {"enum": ["rye", "oat"]}}, "required": ["flour"],
              "additionalProperties": False}  # fmt: skip
    wanted = {"type": "json_schema", "json_schema": {"name": "loaf", "schema": schema}}
    thinking, content = text_of(ask(splitting, BREAD, response_format=wanted))
    assert thinking == "I weigh the risk first." and json.loads(content)["flour"] in ("rye", "oat")
    direct, content = text_of(ask(splitting, BREAD, "/no_think", response_format=wanted))
    assert direct == "" and json.loads(content)["flour"] in ("rye", "oat")
    deep = {"type": "json_schema", "json_schema": {"schema": json.loads('{"items":' * 20 + "{}" + "}" * 20)}}
    refused = post(splitting, {"messages": [{"role": "user", "content": BREAD}], "response_format": deep})
    assert refused.status_code == 400 and "deeper than 16" in refused.text
