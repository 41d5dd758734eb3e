"""A judge's question as a prompt: its material stands in it, whatever the chat template reads, or it fails."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from rapo_ray.config.judge import RAW_GUARDS, GuardFamily
from rapo_ray.errors import EngineError
from rapo_ray.judging.guards.families import guard_questions
from rapo_ray.judging.questions import JudgeFailure, Message
from rapo_ray.judging.rendering import Turn, dropped, rendered
from rapo_ray.types import Completion, Form, Status
from tests.make import make_prompt

pytestmark = pytest.mark.unit

TEXTS = "{% for message in messages %}[{{ message['role'] }}] {{ message['content'] | trim }}\n{% endfor %}"
PARTS = (  # as Llama-Guard-3-1B does, it shows the text parts of a content, and of a string nothing
    "{% for message in messages %}[{{ message['role'] }}] "
    "{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}\n"
    "{% endfor %}"
)
NO_ANSWER = (
    "{% for message in messages %}{% if message['role'] == 'user' %}{{ message['content'] }}{% endif %}{% endfor %}"
)
FIRST_PART = "{% for message in messages %}{{ message['content'][0]['text'] + '\n' }}{% endfor %}"
TURNS = (Message("user", "How is bread made?\n"), Message("assistant", "  Of flour."))


def through(template: str) -> Callable[[list[Turn]], str]:
    """A template applied as the engine applies it."""

    def render(turns: list[Turn]) -> str:
        from jinja2 import TemplateError

        try:
            (text,), _ = render_jinja_template(
                [turns], chat_template=template, add_generation_prompt=True, bos_token=""
            )
        except TemplateError as error:
            raise EngineError(str(error)) from None
        return str(text)

    return render


def test_texts_are_given_as_texts() -> None:
    assert rendered(TURNS, through(TEXTS)) == "[user] How is bread made?\n[assistant] Of flour.\n"


def test_a_template_that_drops_texts_is_given_parts() -> None:
    assert "bread" not in through(PARTS)([{"role": "user", "content": "How is bread made?"}])
    assert rendered(TURNS, through(PARTS)) == "[user] How is bread made?\n[assistant]   Of flour."


def test_a_template_that_fails_on_texts_is_given_parts() -> None:
    with pytest.raises(EngineError):
        through(FIRST_PART)([{"role": "user", "content": "How is bread made?"}])
    assert rendered(TURNS, through(FIRST_PART)) == "How is bread made?\n\n  Of flour.\n"


@pytest.mark.parametrize(
    ("template", "missing"), [(NO_ANSWER, "assistant"), ("Is it safe?", "user, assistant"), ("", "user, assistant")]
)
def test_a_template_that_drops_material_makes_no_prompt(template: str, missing: str) -> None:
    with pytest.raises(JudgeFailure, match=f"drops the text of {missing}, as a string and as parts") as failure:
        rendered(TURNS, through(template))
    assert failure.value.status is Status.TRANSPORT


def test_a_template_that_fails_on_both_says_why() -> None:
    with pytest.raises(EngineError, match="no such conversation"):
        rendered(TURNS, through("{{ raise_exception('no such conversation') }}"))


PUBLISHED = ["llama3_1", "qwen3", "gptoss", "gemma3", "phi3", "idefics3", "smolvlm", "llava_next"]  # trl has them


@pytest.mark.parametrize("name", PUBLISHED)
def test_publishers_templates_show_every_question_of_a_guard(name: str) -> None:
    (package,) = importlib.util.find_spec("trl").submodule_search_locations  # type: ignore[union-attr,misc]
    render = through((Path(package) / "chat_templates" / f"{name}.jinja").read_text("utf-8"))
    request, answer = "How is bread made?", "Of flour,\nwater and salt."
    prompt, completion = make_prompt(text=request), Completion(Form.OK, "A trace.", "A trace.", answer)
    for family in set(get_args(GuardFamily)) - set(RAW_GUARDS):
        for question in guard_questions(family, prompt, completion):
            text = rendered(question.messages, render)
            assert text.index(request) < text.index(answer)


def test_each_text_needs_a_place_of_its_own() -> None:
    bread, no = Message("user", "No bread?"), Message("assistant", "No")
    assert dropped([bread, no], "No bread? No") == []
    assert dropped([bread, no], "No bread?") == ["assistant"]
    assert dropped([bread, bread], "No bread?") == ["user"]
    assert dropped([Message("system", " \n"), no], "No") == []
