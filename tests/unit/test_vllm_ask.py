"""A vllm judge's prompts: in the non-thinking form of its model, or with room to think before a bound reply."""

import asyncio
from collections.abc import Mapping
from concurrent.futures import Future
from importlib.resources import files
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from rapo_ray.engines.vllm_engine import Generated, VllmEngine
from rapo_ray.errors import EngineError
from rapo_ray.judging.questions import CHOICE_TOKENS, Field, JudgeFailure, Question, make_question
from rapo_ray.judging.vllm_ask import AskLimits, VllmAsk
from rapo_ray.models.chat import Conversation
from rapo_ray.models.chat_template import read_format
from rapo_ray.types import Sampling, Status
from tests.tiny import CHAT_TEMPLATE, tiny_tokenizer

pytestmark = pytest.mark.unit

HELPS = [Field("helps", (True, False))]
NO_SYSTEM = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def published(name: str) -> str:
    """A publisher's template, from trl."""
    return files("trl").joinpath(f"chat_templates/{name}.jinja").read_text(encoding="utf-8")


class FakeEngine:
    """An engine with a real tokenizer and template that replies from a script."""

    def __init__(self, template: str, replies: list[tuple[str, bool]]) -> None:
        self._tokenizer: Any = PreTrainedTokenizerFast(
            tokenizer_object=tiny_tokenizer(), eos_token="<|im_end|>", bos_token="<|im_start|>"
        )
        self._tokenizer.chat_template = template
        self.chat = read_format(self._tokenizer)
        self._replies = replies
        self.calls: list[tuple[str, Sampling]] = []

    def render(self, turns: Conversation, arguments: Mapping[str, Any]) -> str:
        text: str = self._tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False, **arguments)
        return text

    def encode_text(self, text: str) -> list[int]:
        tokens: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return tokens

    def submit(self, requests: list[tuple[list[int], Sampling]]) -> list[Future[Generated]]:
        ((tokens, sampling),) = requests
        self.calls.append((self._tokenizer.decode(tokens), sampling))
        text, truncated = self._replies[len(self.calls) - 1]
        future: Future[Generated] = Future()
        labels = tuple(0.0 for _ in sampling.labels)
        future.set_result(Generated(tuple(tokens), tuple(self.encode_text(text)), (), text, truncated, labels))
        return [future]


def ask(
    template: str, question: Question, *replies: str, thinking: int = 0, cut: bool = False, **template_kwargs: Any
) -> tuple[Any, FakeEngine]:
    """The reply to a question, and the engine; `cut` says that the first text hit its limit."""
    engine = FakeEngine(template, [(text, cut and index == 0) for index, text in enumerate(replies)])
    limits = AskLimits(4096, 100, thinking, template_kwargs)
    judge = VllmAsk(engine, limits)  # type: ignore[arg-type]  # as much of an engine as a judge needs
    return asyncio.run(judge(question)), engine


CHOICE = make_question("A rubric.", HELPS, "choice", request="How?", answer="So.")


@pytest.mark.parametrize("style", ["choice", "label"])
@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("qwen3", "<|im_start|>assistant\n<think>\n\n</think>\n\n"),
        ("qwen3_5_think", "<|im_start|>assistant\n<think>\n\n</think>\n\n"),
        ("qwen3_5_nothink", "<|im_start|>assistant\n<think>\n\n</think>\n\n"),
        ("deepseek_r1_distill", "<｜Assistant｜><think>\n\n</think>\n\n"),
        ("glm4moe", "<|assistant|>\n<think></think>"),
        ("gptoss", "<|start|>assistant<|channel|>final<|message|>"),
        ("lfm2_2_5_v2", "<|im_start|>assistant\n<think></think>"),
        ("nemotron_3_nano", "<|im_start|>assistant\n<think></think>"),
        ("qwen2_5", "<|im_start|>assistant\n"),
    ],
)
def test_a_bound_reply_follows_the_non_thinking_form(name: str, ending: str, style: Any) -> None:
    question = make_question("A rubric.", HELPS, style, request="How?", answer="So.")
    reply, engine = ask(published(name), question, question.replies[0])
    ((prompt, sampling),) = engine.calls
    assert prompt.endswith(ending)
    assert prompt.count("<think>") == ending.count("<think>")
    assert reply.text == question.replies[0]
    assert (sampling.choices, sampling.labels) == (
        (question.replies, ()) if style == "choice" else ((), question.replies)
    )


def test_template_arguments_of_the_user_come_last() -> None:
    _, engine = ask(published("qwen3_5_think"), CHOICE, CHOICE.replies[0], enable_thinking=True)
    assert engine.calls[0][0].endswith("<think>\n\n</think>\n\n")  # opened as asked for, and closed for the reply
    _, engine = ask(published("qwen3"), CHOICE, CHOICE.replies[0], enable_thinking=True)
    assert engine.calls[0][0].endswith("<think>\n\n</think>\n\n")  # which the template would leave to the model


@pytest.mark.parametrize("name", ["qwen3", "qwen3_5_nothink", "deepseek_r1_distill"])
def test_a_judge_with_room_thinks_and_is_bound_after_it(name: str) -> None:
    opened = name != "qwen3"
    thought = ("" if opened else "<think>\n") + "It says how.\n</think>\n\n" + '{"helps": false} or so'
    reply, engine = ask(published(name), CHOICE, thought, CHOICE.replies[0], thinking=50)
    (first, free), (second, bound) = engine.calls
    assert (free.max_tokens, free.choices) == (50, ())
    assert first.endswith("<think>\n" if opened else "assistant\n")
    assert second == f"{first}{'' if opened else '<think>' + chr(10)}It says how.\n</think>\n\n"
    assert (bound.choices, bound.max_tokens) == (CHOICE.replies, CHOICE_TOKENS)
    assert reply.text == CHOICE.replies[0]
    assert reply.tokens > sum(len(engine.encode_text(prompt)) for prompt, _ in engine.calls)


def test_a_thought_at_its_limit_is_closed() -> None:
    _, engine = ask(published("qwen3"), CHOICE, "<think>\nOn and on", CHOICE.replies[0], thinking=5, cut=True)
    assert engine.calls[1][0].endswith("assistant\n<think>\nOn and on\n</think>\n\n")


def test_a_thought_that_ends_without_its_mark_is_closed() -> None:
    _, engine = ask(published("qwen3"), CHOICE, "<think>\nThat is all.", CHOICE.replies[0], thinking=50)
    assert engine.calls[1][0].endswith("assistant\n<think>\nThat is all.\n</think>\n\n")


def test_a_judge_that_replies_without_a_thought_is_asked_again_from_the_beginning() -> None:
    _, engine = ask(published("qwen2_5"), CHOICE, '{"helps": true}, I think', CHOICE.replies[0], thinking=50)
    assert engine.calls[1][0] == engine.calls[0][0]


def test_a_text_reply_is_what_follows_the_thought() -> None:
    question = make_question("A rubric.", HELPS, "text", request="How?", answer="So.")
    reply, engine = ask(published("deepseek_r1_distill"), question, 'Hm.\n</think>\n\n{"helps": true}', thinking=30)
    assert engine.calls[0][0].endswith("<think>\n")
    assert engine.calls[0][1].max_tokens == 130
    assert reply.text == '{"helps": true}'


def test_a_template_without_a_system_turn_gets_the_text_in_the_user_s() -> None:
    _, engine = ask(NO_SYSTEM, CHOICE, CHOICE.replies[0])
    system, user = (message.content for message in CHOICE.messages)
    assert engine.calls[0][0] == f"<|im_start|>user\n{system}\n\n{user}<|im_end|>\n<|im_start|>assistant\n"


def test_a_template_that_drops_the_material_fails_the_verdict() -> None:
    template = CHAT_TEMPLATE.replace("message['content']", "message['content'][:12]")
    engine = FakeEngine(CHAT_TEMPLATE, [])
    engine._tokenizer.chat_template = template
    with pytest.raises(JudgeFailure, match="drops the text of system, user") as failure:
        asyncio.run(VllmAsk(engine, AskLimits(4096, 100))(CHOICE))  # type: ignore[arg-type]
    assert failure.value.status is Status.TRANSPORT
    assert engine.calls == []


def test_a_prompt_that_leaves_no_room_is_an_error() -> None:
    engine = FakeEngine(CHAT_TEMPLATE, [])
    with pytest.raises(EngineError, match=r"raise judge\.\*\.max_model_len"):
        asyncio.run(VllmAsk(engine, AskLimits(100, 100))(CHOICE))  # type: ignore[arg-type]


def test_an_engine_has_what_a_judge_calls() -> None:
    assert all(hasattr(VllmEngine, name) for name in ("render", "encode_text", "submit"))
