"""Requests as clients send them: taken where they mean nothing more, refused by name where they do."""

import copy
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from rapo_ray.config.serving import EndpointLimits
from rapo_ray.models.chat import PLAIN, ChatFormat
from rapo_ray.serving.answers import Seen, Shape, shape_whole
from rapo_ray.serving.fastapi_app import invalid_request
from rapo_ray.serving.reasoning import Beginning
from rapo_ray.serving.requests import ChatRequest, CompletionRequest

pytestmark = pytest.mark.unit

USER = {"role": "user", "content": "Hi"}
CHAT: dict[str, Any] = {"messages": [USER]}
NEUTRAL: list[dict[str, Any]] = [
    {"response_format": {"type": "text"}}, {"tools": []}, {"tools": [], "tool_choice": "none"}, {"tool_choice": "auto"},
    {"functions": [], "function_call": "none"}, {"parallel_tool_calls": True}, {"parallel_tool_calls": False},
    {"logit_bias": {}}, {"store": False}, {"metadata": {}}, {"metadata": {"team": "bakery"}}, {"modalities": ["text"]},
    {"service_tier": "auto"}, {"service_tier": "default"}, {"reasoning_effort": "medium"}, {"verbosity": "medium"},
    {"user": "ann"}, {"safety_identifier": "a1"}, {"prompt_cache_key": "k"}, {"n": 1}, {"top_logprobs": 0},
    {"logprobs": False}, {"stream": False}, {"stop": []},
]  # fmt: skip
MEANT: list[tuple[dict[str, Any], str]] = [
    ({"response_format": {"type": "text", "schema": {}}}, "response_format.schema"),
    ({"response_format": {"type": "structural_tag"}}, "response_format.type"),
    ({"response_format": {"type": "json_schema"}}, "response_format"),
    ({"response_format": {"type": "json_object", "json_schema": {"schema": {}}}}, "response_format"),
    ({"response_format": {"type": "json_schema", "json_schema": {"schema": []}}}, "response_format.json_schema.schema"),
    ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
    ({"functions": [{"name": "f"}]}, "functions"),
    ({"logit_bias": {"5": 100}}, "logit_bias"),
    ({"store": True}, "store"),
    ({"store": 0}, "store"),
    ({"metadata": {"a": {"b": 1}}}, "metadata.a"),
    ({"modalities": ["text", "audio"]}, "modalities"),
    ({"service_tier": "priority"}, "service_tier"),
    ({"reasoning_effort": "high"}, "reasoning_effort"),
    ({"audio": {"voice": "x"}}, "audio"),
    ({"prediction": {"type": "content", "content": "a"}}, "prediction"),
    ({"web_search_options": {}}, "web_search_options"),
    ({"chat_template": "{{ 1 }}"}, "chat_template"),
    ({"chat_template_kwargs": {}}, "chat_template_kwargs"),
    ({"continue_final_message": True}, "continue_final_message"),
    ({"add_generation_prompt": False}, "add_generation_prompt"),
    ({"request_id": "mine"}, "request_id"),
    ({"max_tokens": True}, "max_tokens"),
    ({"max_tokens": "2"}, "max_tokens"),
    ({"max_completion_tokens": "2"}, "max_completion_tokens"),
    ({"temperature": "0.5"}, "temperature"),
    ({"temperature": True}, "temperature"),
    ({"n": True}, "n"),
    ({"seed": "7"}, "seed"),
    ({"stream": "true"}, "stream"),
    ({"stream": True, "stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation"),
]
HISTORY: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (
        {"role": "assistant", "content": "Bread.", "reasoning_content": "a", "reasoning": "a"},
        {"role": "assistant", "content": "Bread."},
    ),
    (
        {"role": "assistant", "content": "Bread.", "refusal": None, "annotations": None, "audio": None,
         "function_call": None, "tool_calls": None, "name": None, "reasoning_content": None},
        {"role": "assistant", "content": "Bread."},
    ),
    (
        {"role": "assistant", "content": "Bread.", "annotations": [], "tool_calls": []},
        {"role": "assistant", "content": "Bread."},
    ),
    ({"role": "assistant", "content": None, "reasoning": "a"}, {"role": "assistant", "content": ""}),
    ({"role": "assistant", "content": None, "refusal": "No."}, {"role": "assistant", "content": "No."}),
    (
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        {"role": "assistant", "content": "No."},
    ),
    ({"role": "developer", "content": "Be brief."}, {"role": "system", "content": "Be brief."}),
    ({"role": "user", "content": [{"type": "text", "text": "Hi"}]}, USER),
    ({"role": "user", "content": [{"type": "text", "text": "Hi", "annotations": [], "id": None}]}, USER),
    (
        {"role": "system", "content": [{"type": "text", "text": "Be"}, {"type": "text", "text": "brief."}]},
        {"role": "system", "content": "Be\nbrief."},
    ),
    (
        {"role": "assistant", "content": "a", "provider_specific_fields": {"refusal": None, "reasoning": "b"}},
        {"role": "assistant", "content": "a"},
    ),
    ({"role": "user", "content": "Hi", "type": "message"}, USER),
    ({"role": "user", "content": "Hi", "name": "ann"}, {**USER, "name": "ann"}),
]  # fmt: skip
NO_HISTORY: list[tuple[Any, str]] = [
    ({"role": "user", "content": None}, "content: a text is required"),
    ({"role": "system"}, "content: a text is required"),
    ({"role": "user", "content": []}, "at least one"),
    ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}, "part 1 has another type"),
    ({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "input_audio"}]}, "part 2 has another type"),
    ({"role": "user", "content": [{"type": "text", "text": "a", "image_url": "x"}]}, "part 1 has 'image_url'"),
    ({"role": "user", "content": [{"type": "text", "text": 5}]}, "part 1 has no text"),
    ({"role": "user", "content": ["Hi"]}, "part 1 is no object"),
    ({"role": "user", "content": "Hi", "refusal": "x"}, "only an assistant's message"),
    ({"role": "assistant", "content": "a", "tool_calls": [{"id": "1"}]}, "only [] is taken"),
    ({"role": "tool", "content": "a", "tool_call_id": "1"}, "role"),
    ({"role": "root", "content": "a"}, "role"),
    ({"role": "assistant", "content": "a", "prefix": True}, "prefix"),
    ("Hi", "messages"),
]
SURROGATES: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "content": "a\ud800b"}]},
    {"messages": [{"role": "user", "content": "\udfff"}]},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "\ude00\ud83d"}]}]},
    {"messages": [{"role": "assistant", "content": None, "refusal": "\ud800"}, USER]},
    {"messages": [{"role": "user", "content": "a", "name": "\ud800"}]},
    {**CHAT, "stop": "\ud800"},
    {**CHAT, "stop": ["a", "\ud800"]},
    {**CHAT, "user": "\ud800"},
    {**CHAT, "model": "\ud800"},
    {**CHAT, "metadata": {"a": "\ud800"}},
]


def engine_fields(body: dict[str, Any]) -> dict[str, Any]:
    request = ChatRequest.model_validate(body)
    return request.for_engine("m", request.turns(None), PLAIN, split=True)


def problem_of(kind: type[BaseModel], body: Any) -> str:
    """The message of the answer to a request that is not taken; it is one line."""
    with pytest.raises(ValidationError) as caught:
        kind.model_validate(body)
    problem = invalid_request([dict(error) for error in caught.value.errors(include_input=False)])
    assert problem.status == 400 and "\n" not in problem.message
    return problem.message


@pytest.mark.parametrize("fields", NEUTRAL)
def test_a_field_that_means_nothing_changes_nothing(fields: dict[str, Any]) -> None:
    sent = engine_fields({**CHAT, **fields})
    assert {name: value for name, value in sent.items() if name != "stop"} == engine_fields(CHAT)


@pytest.mark.parametrize("name", sorted({*ChatRequest.model_fields, "tool_resources"} - {"messages"}))
def test_null_asks_for_the_default(name: str) -> None:
    assert engine_fields({**CHAT, name: None}) == engine_fields(CHAT)


@pytest.mark.parametrize(("fields", "name"), MEANT)
def test_a_field_that_means_something_is_refused_by_name(fields: dict[str, Any], name: str) -> None:
    assert problem_of(ChatRequest, {**CHAT, **fields}).startswith(f"{name}: ")


@pytest.mark.parametrize(("message", "turn"), HISTORY)
def test_a_message_becomes_a_turn_of_text(message: dict[str, Any], turn: dict[str, Any]) -> None:
    request = ChatRequest.model_validate({"messages": [USER, message, USER]})
    assert request.turns(None) == [USER, turn, USER]


def test_our_own_answers_come_back_as_they_were_given() -> None:
    answer = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "<think>\na\n</think>\n\nBread."},
                           "finish_reason": "stop"}]}  # fmt: skip
    for reasoning, withheld in (("split", False), ("inline", False), ("split", True)):
        shape = Shape(reasoning, withheld, "run-v1", True)  # type: ignore[arg-type]
        (choice,) = shape_whole(copy.deepcopy(answer), shape, Seen())["choices"]
        back = ChatRequest.model_validate({"messages": [USER, choice["message"], USER]}).turns(None)[1]
        assert back == {"role": "assistant", "content": choice["message"]["content"]}


@pytest.mark.parametrize(("message", "problem"), NO_HISTORY)
def test_a_message_that_holds_more_than_text_is_refused(message: Any, problem: str) -> None:
    assert problem in problem_of(ChatRequest, {"messages": [message]})


def test_a_developer_s_turn_stands_in_the_place_of_the_model_s_own_system_prompt() -> None:
    request = ChatRequest.model_validate({"messages": [{"role": "developer", "content": "mine"}, USER]})
    assert request.turns("be safe") == [{"role": "system", "content": "mine"}, USER]


@pytest.mark.parametrize("body", SURROGATES)
def test_text_that_no_engine_can_encode_is_refused(body: dict[str, Any]) -> None:
    assert "a valid string" in (message := problem_of(ChatRequest, {**CHAT, **body})) or "lone surrogate" in message


def test_plain_completions_take_a_batch() -> None:
    fields = {"best_of": 1, "echo": False, "suffix": "", "logit_bias": {}, "logprobs": None, "user": "a"}
    request = CompletionRequest.model_validate({"prompt": ["a", "b"], **fields})
    sent = request.for_engine("m", PLAIN)
    assert sent == {"model": "m", "prompt": ["a", "b"], "n": 1, "stream": False, "stop_token_ids": []}
    assert CompletionRequest.model_validate({"prompt": ["a", "b"], "n": 3}).choices == 6
    assert request.over(EndpointLimits(prompts=1)) == "2 prompts are more than 1"


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"prompt": []}, "prompt: "), ({"prompt": ""}, "prompt.0: "), ({"prompt": ["a", ""]}, "prompt.1: "),
        ({"prompt": [1, 2]}, "token ids are not taken"), ({"prompt": [[1], [2]]}, "token ids are not taken"),
        ({"prompt": None}, "prompt: "), ({"prompt": {"a": 1}}, "prompt: "), ({"prompt": ["a", "\ud800"]}, "prompt.1: "),
        ({"prompt": "a", "echo": True}, "echo: only false"), ({"prompt": "a", "suffix": "b"}, "suffix: "),
        ({"prompt": "a", "best_of": 2}, "best_of: only 1"), ({"prompt": "a", "n": 2, "best_of": 1}, "less than n"),
        ({"prompt": "a", "prompt_logprobs": 1}, "prompt_logprobs: this endpoint does not take"),
    ],
)  # fmt: skip
def test_a_plain_completion_that_asks_for_more_is_refused(body: dict[str, Any], problem: str) -> None:
    assert problem in problem_of(CompletionRequest, body)


# --- structured output ----------------------------------------------------------------------------------------------

SCHEMA = {"type": "object", "properties": {"grams": {"type": "integer"}}}
ANSWER = {"type": "json_schema", "json_schema": SCHEMA, "max_whitespace_cnt": 32}
THINKING = {"type": "tag", "begin": "<think>\n", "content": {"type": "any_text"}, "end": "</think>"}


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels - 1):
        schema = {"items": schema}
    return schema


def asks_for(schema: dict[str, Any]) -> dict[str, Any]:
    return {**CHAT, "response_format": {"type": "json_schema", "json_schema": {"name": "loaf", "schema": schema}}}


def test_a_schema_holds_what_follows_the_thinking() -> None:
    request = ChatRequest.model_validate(asks_for(SCHEMA))

    def elements(chat: ChatFormat, beginning: Beginning) -> list[dict[str, Any]]:
        sent = request.for_engine("m", [], chat, split=True, beginning=beginning)["response_format"]
        assert (sent["type"], sent["format"]["type"]) == ("structural_tag", "sequence")
        return list(sent["format"]["elements"])

    def constant(text: str) -> dict[str, Any]:
        return {"type": "const_string", "value": text}

    between = constant("\n\n")
    assert elements(PLAIN, "none") == [THINKING, between, ANSWER]
    assert elements(ChatFormat(opened=True, lead="\n"), "opened") == [{**THINKING, "begin": "\n"}, between, ANSWER]
    assert elements(ChatFormat(closing="</think>"), "none") == [THINKING, ANSWER]
    assert elements(PLAIN, "closed") == [ANSWER]
    wrapped = ChatFormat(answer_start="<answer>", answer_end="</answer>")
    assert elements(wrapped, "none") == [THINKING, constant("\n\n<answer>"), ANSWER, constant("</answer>")]
    assert elements(wrapped, "closed") == [ANSWER, constant("</answer>")]


def test_any_object_and_plain_text() -> None:
    anything = ChatRequest.model_validate({**CHAT, "response_format": {"type": "json_object"}})
    assert anything.answer_schema == {"type": "object"}
    assert ChatRequest.model_validate({**CHAT, "response_format": {"type": "text"}}).answer_schema is None


def test_a_schema_is_bounded() -> None:
    limits = EndpointLimits(schema_depth=5, schema_characters=200)
    for schema, problem in (
        (nested(5), None), (nested(6), "deeper than 5"), (nested(900), "deeper than 5"),
        ({"enum": ["x" * 300]}, "more than 200 characters"), ({"title": "\ud800"}, "lone surrogate"),
    ):  # fmt: skip
        over = ChatRequest.model_validate(asks_for(schema)).over(limits)
        assert (over is None) if problem is None else (over is not None and problem in over)
