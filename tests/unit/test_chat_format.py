"""Chat formats of model families: as the reader finds them, and as prompts, training texts and verdicts use them."""

import json
import shutil
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from rapo_ray.config.thinking import ThinkingConfig
from rapo_ray.data.quickstart_set import Demonstration
from rapo_ray.engines.vllm_engine import text_of
from rapo_ray.errors import ModelError
from rapo_ray.models.chat import PLAIN, ChatFormat, parse_completion
from rapo_ray.models.chat_template import describe, format_of_folder, read_format, special_ids
from rapo_ray.models.published import read_published, write_chat, write_manifest
from rapo_ray.types import Form
from rapo_ray.warmup.demonstrations import tokenize
from tests import chat_tokenizers as families
from tests.chat_table import table
from tests.chat_tokenizers import (
    FAMILIES,
    Family,
    format_of,
    rendered_by,
    stops_of,
    tokenizer_of,
    trl_templates,
    write_folder,
)
from tests.docs import ROOT
from tests.make import make_prompt
from tests.unit.test_completion import MALFORMED, WELL_FORMED

pytestmark = pytest.mark.unit

NO_THINKING = {"enable_thinking": False}
THINKING = {"enable_thinking": True}
EMPTY = "<think>\n\n</think>\n\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """A family's format; the defaults are those of a model that its template does not show thinking."""

    opening: str = "<think>\n"
    closing: str = "\n</think>\n\n"
    answer: tuple[str, str] = ("", "")
    opened: bool = False
    on: dict[str, Any] = field(default_factory=dict)
    off: dict[str, Any] | None = None
    end: str = "<|im_end|>"
    special: bool = False  # a mark has special tokens
    system: bool = True
    parts: bool = False
    shown: bool = False
    field: str = "content"  # of a turn, that the template renders thinking from; "" where it drops thinking
    quiet: str = ""  # the end of a prompt that is answered at once


def think(**fields: Any) -> Expected:
    """The usual marks, shown by the template, with thinking in a field of its own."""
    return Expected(**{"shown": True, "field": "reasoning_content", **fields})


GEMMA_4 = Expected(
    opening="<|channel>thought\n", closing="\n<channel|>", on=THINKING, off={}, end="<turn|>", special=True, shown=True,
    field="", quiet="<|turn>model\n",
)  # fmt: skip
NEMOTRON_3 = think(closing="\n</think>\n", opened=True, off=NO_THINKING, quiet="<|im_start|>assistant\n<think></think>")
NEMOTRON_ULTRA = replace(NEMOTRON_3, closing="</think>")
QWEN_3 = think(off=NO_THINKING, quiet=f"<|im_start|>assistant\n{EMPTY}")
LFM_25 = think(opening="<think>", closing="</think>", quiet="<|im_start|>assistant\n<think></think>")
R1 = think(opened=True, end="<｜end▁of▁sentence｜>", field="", quiet=f"<｜Assistant｜>{EMPTY}")
LLAMA_3 = Expected(end="<|eot_id|>", quiet="assistant<|end_header_id|>\n\n")
CHATML = Expected(quiet="<|im_start|>assistant\n")
VISION = Expected(opening=" <think>\n", end="<end_of_utterance>", parts=True, quiet="Assistant:")
MISTRAL = Expected(
    opening="[THINK]", closing="[/THINK]", end="</s>", special=True, shown=True, quiet="[/INST][THINK][/THINK]"
)

EXPECTED: dict[str, Expected] = {
    "deepseek_r1_distill": R1,
    "deepseekv3": R1,
    "qwen3": QWEN_3,
    "qwen3_5_think": replace(QWEN_3, opened=True),
    "qwen3_5_nothink": replace(QWEN_3, opened=True, on=THINKING, off={}),
    "qwen3_6": replace(QWEN_3, opened=True),
    "qwen3_8": replace(QWEN_3, opened=True),
    "qwen3_instruct_2507": CHATML,
    "qwen3_vl": CHATML,
    "qwen2_5": CHATML,
    "qwen2_5_vl": CHATML,
    "gptoss": think(
        opening="<|channel|>analysis<|message|>", closing="<|end|><|start|>assistant<|channel|>final<|message|>",
        end="<|return|>", special=True, field="thinking", quiet="<|start|>assistant<|channel|>final<|message|>",
    ),
    "glm4moe": think(
        opening="\n<think>", closing="</think>\n", off=NO_THINKING, end="<|user|>", quiet="\n<think></think>"
    ),
    "nemotron_3_nano": NEMOTRON_3,
    "nemotron_3_super": NEMOTRON_3,
    "nemotron_3_ultra": NEMOTRON_ULTRA,
    "nemotron_3_5_lightning": NEMOTRON_ULTRA,
    "lfm2": CHATML,
    "lfm2_v2": CHATML,
    "lfm2_2_5": replace(LFM_25, field="thinking"),
    "lfm2_2_5_v2": LFM_25,
    "lfm2_2_5_vl": LFM_25,
    "gemma4": GEMMA_4,
    "gemma4_v2": GEMMA_4,
    "gemma4_v3": GEMMA_4,
    "gemma4_v4": GEMMA_4,
    "gemma4_v5": replace(GEMMA_4, field="reasoning_content"),
    "diffusion_gemma": replace(GEMMA_4, field="reasoning_content"),
    "muse_glimmer": think(
        opening=" to=self<|message|>", closing="<|eom|><|start|>assistant to=user<|message|>", end="<|eot|>",
        special=True, quiet="<|start|>assistant to=user<|message|>",
    ),
    "gemma": Expected(end="<end_of_turn>", system=False, quiet="<start_of_turn>model\n"),
    "gemma3": Expected(end="<end_of_turn>", quiet="<start_of_turn>model\n"),
    "llama3": LLAMA_3,
    "llama3_1": LLAMA_3,
    "llama3_2": LLAMA_3,
    "phi3": Expected(end="<|end|>", quiet="<|assistant|>\n"),
    "phi3_5": Expected(end="<|end|>", quiet="<|assistant|>\n"),
    "cohere": Expected(end="<|END_OF_TURN_TOKEN|>", quiet="<|CHATBOT_TOKEN|>"),
    "cohere2": Expected(
        opening="<|START_THINKING|>", closing="<|END_THINKING|>", answer=("", "<|END_RESPONSE|>"),
        end="<|END_OF_TURN_TOKEN|>", special=True, quiet="<|CHATBOT_TOKEN|><|START_RESPONSE|>",
    ),
    "idefics3": VISION,
    "smolvlm": VISION,
    "llava_next": replace(VISION, end="</s>", quiet="[/INST]"),
    "qwq": think(opened=True, quiet=f"<|im_start|>assistant\n{EMPTY}"),
    "minimax_m2": think(opened=True, end="[e~[", quiet=f"]~b]ai\n{EMPTY}"),
    "minimax_m3": think(
        opening="<mm:think>", closing="</mm:think>", opened=True, on={"thinking_mode": "enabled"},
        off={"thinking_mode": "disabled"}, end="[e~[", quiet="]~b]ai\n</mm:think>",
    ),
    "nemotron_nano_v2": think(
        opened=True, answer=("", "\n"), end="<SPECIAL_12>", field="content", quiet="Assistant\n<think></think>"
    ),
    "glm_4_7": think(
        opening="<think>", closing="</think>", opened=True, off=NO_THINKING, end="<|user|>",
        quiet="<|assistant|></think>",
    ),
    "smollm3": think(
        closing="\n</think>\n", off=NO_THINKING, field="content",
        quiet="<|im_start|>assistant\n<think>\n\n</think>\n",
    ),
    "kimi_k2": think(
        opening="<think>", closing="</think>", field="", quiet="<|im_assistant|>assistant<|im_middle|><think></think>"
    ),
    "deepseek_v3_1": think(
        opening="<think>", closing="</think>", opened=True, on={"thinking": True}, off={}, end="<｜end▁of▁sentence｜>",
        field="", quiet="<｜Assistant｜></think>",
    ),
    "granite_3_3": think(
        answer=("<response>", "</response>"), on={"thinking": True}, off={}, end="<|end_of_text|>", field="content",
        quiet="<|start_of_role|>assistant<|end_of_role|>",
    ),
    "hunyuan": think(
        closing="\n</think>\n", answer=("<answer>", "</answer>"), off=NO_THINKING, end="<|eos|>", field="content",
        quiet="<|extra_0|><think>\n\n</think>\n",
    ),
    "ernie": think(
        opened=True, answer=("<response>\n", "\n</response>\n"), quiet=f"<|im_start|>assistant\n{EMPTY}<response>\n"
    ),
    "magistral": MISTRAL,
    "ministral": MISTRAL,
    "seed_oss": think(
        opening="<seed:think>", closing="</seed:think>", off={"thinking_budget": 0}, end="<seed:eos>", special=True,
        field="content", quiet="I answer at once.</seed:think>",
    ),
    "apertus": think(
        opening="<|inner_prefix|>", closing="<|inner_suffix|>", on=THINKING, off={}, end="<|assistant_end|>",
        special=True, field="content", quiet="<|assistant_start|>",
    ),
    "command_a": think(
        opening="<|START_THINKING|>", closing="<|END_THINKING|>", answer=("<|START_RESPONSE|>", "<|END_RESPONSE|>"),
        off={"reasoning": False}, end="<|END_OF_TURN_TOKEN|>", special=True, field="",
        quiet="<|CHATBOT_TOKEN|><|START_THINKING|><|END_THINKING|>",
    ),
    "llama_guard": Expected(end="<|eot_id|>", parts=True, field="", quiet="verdict: "),
    "mistral_small": replace(MISTRAL, shown=False, quiet="[/INST]"),
    "role_tags": Expected(answer=("", "</assistant>"), quiet="<assistant>"),
    "chatml": CHATML,
}  # fmt: skip

USER, THOUGHT, ANSWER = "How do I bake bread?", "I weigh it first.\n\nStep two.", "Bread needs flour.\n\nAnd water."
each_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
TEXT = st.text(st.characters(exclude_categories=("C",), exclude_characters="<>[]|"), min_size=1, max_size=40)
words = TEXT.map(str.strip).filter(bool)


def prompt_of(family: Family, arguments: Any = None, system: str | None = None) -> str:
    """The rendered prompt, with thinking on."""
    chat = format_of(family)
    text: str = tokenizer_of(family).apply_chat_template(
        chat.turns(system, USER), tokenize=False, add_generation_prompt=True,
        **(chat.on if arguments is None else arguments),
    )  # fmt: skip
    return text


def behind_user(text: str) -> str:
    """The part of a text that follows the user's turn; system turns of some templates speak of marks too."""
    return text.rpartition(USER)[2]


def test_every_template_of_trl_is_a_family() -> None:
    published = {name for name in trl_templates() if not name.endswith("_training")}
    assert published == {family.template for family in FAMILIES if family.template in trl_templates()}
    assert set(EXPECTED) == {family.name for family in FAMILIES}


@each_family
def test_the_format_is_read(family: Family) -> None:
    chat, expected = format_of(family), EXPECTED[family.name]
    assert (chat.opening, chat.closing) == (expected.opening, expected.closing)
    assert (chat.answer_start, chat.answer_end) == expected.answer
    assert (chat.opened, dict(chat.on), chat.off) == (expected.opened, expected.on, expected.off)
    assert (chat.end, chat.end_id) == (expected.end, tokenizer_of(family).convert_tokens_to_ids(expected.end))
    assert (bool(chat.mark_ids), chat.system, chat.parts) == (expected.special, expected.system, expected.parts)
    assert chat.shown == expected.shown
    assert chat.off_word == ("/no_think" if family.name == "nemotron_nano_v2" else "")
    assert {chat.end_id, tokenizer_of(family).eos_token_id, *stops_of(family)} == set(chat.stops)
    assert not chat.lead, "each prompt has all of the opening or none of it"


@pytest.mark.parametrize("name", [name for name in trl_templates() if name.endswith("_training")])
def test_trl_s_training_templates_have_the_format_of_the_publisher_s(name: str) -> None:
    family = families.family(name.removesuffix("_training"))
    chat, training = format_of(family), format_of(replace(family, template=name))
    assert (training.opening, training.closing, training.end) == (chat.opening, chat.closing, chat.end)
    assert training.opened == chat.opened


@each_family
def test_a_training_text_is_the_prompt_the_completion_and_the_end(family: Family) -> None:
    chat, tokenizer = format_of(family), tokenizer_of(family)
    demonstration = Demonstration(make_prompt(text=USER), PLAIN.compose(THOUGHT, ANSWER))
    (sequence,) = tokenize([demonstration], tokenizer, None, chat)
    assert tokenizer.decode(sequence.prompt) == prompt_of(family)
    completion = chat.compose(THOUGHT, ANSWER) + chat.end
    assert tokenizer.decode(sequence.completion) == completion
    assert sequence.completion.count(chat.end_id) == 1
    assert behind_user(prompt_of(family) + completion).count(chat.open_mark) == 1


@each_family
def test_a_training_text_is_what_the_template_makes_of_the_conversation(family: Family) -> None:
    assert rendered_by(family, USER, "One thought.", "One answer.") == EXPECTED[family.name].field


@each_family
@pytest.mark.parametrize("system", [None, "Be kind."])
def test_a_prompt_holds_the_system_s_text_and_the_user_s(family: Family, system: str | None) -> None:
    prompt = prompt_of(family, system=system)
    assert USER in prompt
    assert system is None or system in prompt


@each_family
def test_a_begun_thought_has_one_mark_and_leads_to_the_training_text(family: Family) -> None:
    chat, prompt = format_of(family), prompt_of(family)
    training = prompt + chat.compose(THOUGHT, ANSWER)
    for thinking, closed in (("", False), ("I weigh", False), (THOUGHT, False), (THOUGHT, True)):
        begun = prompt + chat.begin(thinking, closed)
        assert behind_user(begun).count(chat.open_mark) == 1
        assert behind_user(begun).count(chat.close_mark) == closed
        assert training.startswith(begun)


@each_family
def test_a_completion_is_parsed_into_what_it_was_made_of(family: Family) -> None:
    chat = format_of(family)

    @given(words, words)
    def check(thinking: str, answer: str) -> None:
        for text in (chat.compose(thinking, answer), chat.opening + thinking + chat.closing + answer):
            completion = parse_completion(text, False, chat)
            assert (completion.form, completion.thinking, completion.answer) == (Form.OK, thinking, answer)
            assert completion.trace and completion.thinking.startswith(completion.trace)
            assert chat.answer_of(text) == answer

    check()


@each_family
@pytest.mark.parametrize(("text", "form"), [*MALFORMED, *((text, Form.OK) for text in WELL_FORMED)])
def test_a_text_with_a_format_s_marks_has_the_form_of_the_plain_one(family: Family, text: str, form: Form) -> None:
    chat = format_of(family)
    plain, other = parse_completion(text, False), parse_completion(chat.from_plain(text), False, chat)
    assert (plain.form, other.form) == (form, form)
    assert other.trace == plain.trace.replace(PLAIN.open_mark, chat.open_mark)


@each_family
def test_a_direct_answer_is_no_completion_and_is_read_as_one(family: Family) -> None:
    chat = format_of(family)
    text = chat.direct_mark + ANSWER
    assert parse_completion(text, False, chat).form is Form.NO_THINK_END
    assert chat.answer_of(text) == ANSWER
    assert chat.answer_of(f"{chat.opening}{ANSWER}") == ANSWER, "a thought that never closes is what a user would see"


@each_family
def test_no_mark_is_left_in_an_inert_text(family: Family) -> None:
    chat = format_of(family)
    text = chat.inert(chat.opening + THOUGHT + chat.closing + chat.direct_mark + ANSWER)
    assert chat.open_mark not in text and chat.close_mark not in text
    assert not chat.direct_mark or chat.direct_mark not in text
    assert ANSWER in text
    completion = parse_completion(chat.compose("-", text), False, chat)
    assert (completion.form, completion.thinking) == (Form.OK, "-")


@each_family
def test_a_judge_is_asked_outside_a_thought(family: Family) -> None:
    chat = format_of(family)
    prompt = prompt_of(family, chat.off or {}, chat.without_thinking("Judge this."))
    text = prompt + chat.to_answer(prompt, quiet=chat.off is not None or bool(chat.off_word))
    assert text.endswith(EXPECTED[family.name].quiet)
    behind = behind_user(text)
    assert behind.rfind(chat.open_mark) <= behind.rfind(chat.close_mark)


@each_family
def test_decoding_keeps_the_marks_and_no_other_special_token(family: Family) -> None:
    chat, tokenizer = format_of(family), tokenizer_of(family)
    prompt = tokenizer.encode(prompt_of(family), add_special_tokens=False)
    completion = tokenizer.encode(chat.compose(THOUGHT, ANSWER), add_special_tokens=False)
    padding, hidden = tokenizer.pad_token_id, special_ids(tokenizer).difference(chat.mark_ids)
    for tokens in (completion, [*completion, chat.end_id], [padding, *completion, padding]):
        assert text_of(prompt, tokens, tokenizer, hidden) == chat.compose(THOUGHT, ANSWER)


@each_family
def test_a_format_is_written_and_read_back(family: Family) -> None:
    chat = format_of(family)
    assert ChatFormat.from_json(json.loads(json.dumps(chat.to_json()))) == chat


@each_family
def test_a_format_is_described_in_one_line(family: Family) -> None:
    chat, line = format_of(family), describe(format_of(family))
    assert "\n" not in line
    assert repr(chat.open_mark) in line and repr(chat.close_mark) in line and repr(chat.end) in line
    assert ("a warm-up teaches" in line) is not chat.shown
    assert ("no switch" in line) is (chat.off is None and not chat.off_word)


# --- templates that do not show their format, and the settings that tell it


@cache
def problem(family: Family) -> str:
    """The error for a family, which is one line."""
    with pytest.raises(ModelError) as caught:
        format_of(family)
    assert len(str(caught.value).splitlines()) == 1
    assert str(caught.value).startswith(f"{family.name}: ")
    return str(caught.value)


@pytest.mark.parametrize(
    ("family", "words"),
    [
        (families.BASE, ("no chat template (a base model)", "chat_template.jinja")),
        (families.REFUSING, ("refuses a user's turn", "no turn is right")),
        (families.DEAF, ("leaves out what the user says",)),
        (families.UNKNOWN_CLOSING, ("ends in '<ponder>'", "model.thinking.open and model.thinking.close")),
        (families.AMBIGUOUS, ("<think> and <reasoning>", "model.thinking.open and model.thinking.close")),
        (families.CLOSED, ("closes the thinking in the prompt", "model.thinking.template_kwargs")),
        (families.SWITCHED, ("closes the thinking in the prompt", "model.thinking.template_kwargs")),
        (families.NO_END, ("names a token that ends a turn", "model.thinking.end_of_turn")),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_format_that_cannot_be_told_is_one_line_that_says_what_to_set(family: Family, words: tuple[str, ...]) -> None:
    for word in words:
        assert word in problem(family)


def read(family: Family, **settings: Any) -> ChatFormat:
    """The format of a family under settings."""
    return read_format(tokenizer_of(family), ThinkingConfig(**settings), (), family.name)


def test_marks_that_are_set_are_taken_as_they_are() -> None:
    chat = read(families.UNKNOWN_CLOSING, open="<ponder>\n", close="\n</ponder>\n")
    assert (chat.opening, chat.closing, chat.opened, chat.shown) == ("<ponder>\n", "\n</ponder>\n", True, True)
    assert chat.compose("T", "A") == "T\n</ponder>\nA"
    chat = read(families.AMBIGUOUS, open="<reasoning>", close="</reasoning>")
    assert (chat.compose("T", "A"), chat.opened) == ("<reasoning>T</reasoning>A", False)
    chat = read(families.family("chatml"), open="<think>", close="</think>", answer=("<a>", "</a>"))
    assert (chat.compose("T", "A"), chat.shown) == ("<think>T</think><a>A</a>", True)
    assert parse_completion("<think>T</think>\n<a>\nA\n</a>", False, chat).answer == "A"


def test_template_arguments_that_are_set_open_the_thinking() -> None:
    chat = read(families.SWITCHED, template_kwargs={"depth": "deep"})
    assert (chat.on, chat.off, chat.opened) == ({"depth": "deep"}, {}, False)
    with pytest.raises(ModelError, match="closes the thinking"):
        read(families.SWITCHED, template_kwargs={"depth": "shallow"})
    with pytest.raises(ModelError, match="closes the thinking"):
        read(families.family("qwen3"), template_kwargs=NO_THINKING)


def test_template_arguments_that_a_template_refuses_are_named() -> None:
    family = replace(
        families.family("chatml"), name="picky",
        template=f"{{% if depth %}}{{{{ raise_exception('no depth') }}}}{{% endif %}}{families.CHATML}",
    )  # fmt: skip
    with pytest.raises(ModelError) as caught:
        read(family, template_kwargs={"depth": 3})
    assert str(caught.value) == (
        "picky: its chat template refuses model.thinking.template_kwargs={'depth': 3}: no depth"
    )


def test_an_end_of_turn_that_is_set_is_a_token() -> None:
    chat = read(families.NO_END, end_of_turn="<|im_end|>")
    assert (chat.end, chat.end_id, chat.stops) == ("<|im_end|>", 2, (2,))
    with pytest.raises(ModelError, match="end_of_turn='<end>' is no token of its tokenizer"):
        read(families.NO_END, end_of_turn="<end>")


def test_a_prompt_that_holds_a_part_of_the_opening_is_continued_with_the_rest() -> None:
    family = replace(
        families.family("qwq"), name="half",
        template=families.QWQ.replace("assistant\n<think>\n{% endif %}", "assistant\n<think>{% endif %}"),
    )  # fmt: skip
    chat = format_of(family)
    assert (chat.opened, chat.lead) == (True, "\n")
    assert chat.begin("T") == "\nT"
    assert rendered_by(family, USER, "One thought.", "One answer.") == "reasoning_content"


def test_a_space_that_the_tokenizer_puts_before_a_text_is_not_put_there_twice() -> None:
    from transformers import PreTrainedTokenizerFast

    model = Tokenizer(models.WordLevel({"<unk>": 0, "</s>": 1, "\u2581a": 2}, unk_token="<unk>"))
    model.pre_tokenizer = pre_tokenizers.Metaspace()
    template = families.template("", "{{ c }}[/INST]", " {{ c }}</s>", "")
    spaced = PreTrainedTokenizerFast(tokenizer_object=model, eos_token="</s>", chat_template=template)
    plain = tokenizer_of(Family(name="spaced", models="", template=template, special=("</s>",), eos="</s>"))
    assert (read_format(spaced).opening, read_format(plain).opening) == ("<think>\n", " <think>\n")


def test_marks_behind_one_another_are_two() -> None:
    template = families.template(
        families.IM_SYSTEM, families.IM_USER,
        "<|im_start|>assistant\n<think>{{ m['reasoning'] }}</think><answer>{{ c }}</answer><|im_end|>",
        "<|im_start|>assistant\n<think>",
    )  # fmt: skip
    chat = format_of(Family(name="both", models="", template=template))
    assert (chat.closing, chat.answer_start, chat.answer_end) == ("</think>", "<answer>", "</answer>")
    assert parse_completion("T</think>\n<answer>A</answer>", False, chat).answer == "A"


def test_set_template_arguments_stay_where_thinking_is_off() -> None:
    chat = read(families.family("qwen3"), template_kwargs={"depth": 3})
    assert (chat.on, chat.off) == ({"depth": 3}, {"depth": 3, "enable_thinking": False})
    chat = read(families.family("apertus"), template_kwargs={"depth": 3})
    assert (chat.on, chat.off) == ({"depth": 3, **THINKING}, {"depth": 3})
    chat = read(families.family("seed_oss"), template_kwargs={"thinking_budget": 512})
    assert (chat.on, chat.off) == ({"thinking_budget": 512}, {"thinking_budget": 0})


def test_set_marks_that_a_template_contradicts_are_refused() -> None:
    with pytest.raises(ModelError, match=r"renders thinking between '<think>\\n' and .*: leave them out"):
        read(families.family("qwen3"), open="[THINK]", close="[/THINK]")
    assert read(families.family("qwen3"), open="<think>", close="</think>").opening == "<think>"


def test_a_judge_that_never_thinks_may_have_a_prompt_that_closes_the_thought() -> None:
    family = families.CLOSED
    with pytest.raises(ModelError, match=r"set judge\.risk\.thinking\.template_kwargs"):
        read_format(tokenizer_of(family), setting="judge.risk.thinking")
    chat = read_format(tokenizer_of(family), thinks=False)
    prompt = tokenizer_of(family).apply_chat_template(
        chat.turns(None, USER), tokenize=False, add_generation_prompt=True
    )
    assert (chat.off, chat.to_answer(prompt, quiet=True)) == ({}, "")


def test_a_template_by_name_is_read_by_its_default() -> None:
    tokenizer = tokenizer_of(replace(families.family("qwq"), name="several"))
    tokenizer.chat_template = {"default": families.QWQ, "tools": families.REFUSING.template}
    assert read_format(tokenizer) == format_of(families.family("qwq"))


# --- folders


def test_a_folder_s_end_tokens_are_those_of_its_generation_config(tmp_path: Path) -> None:
    family = families.family("glm4moe")
    folder = write_folder(family, tmp_path)
    assert format_of_folder(folder, ThinkingConfig()) == format_of(family)
    (folder / "generation_config.json").write_text('{"eos_token_id": 3}', encoding="utf-8")
    assert format_of_folder(folder, ThinkingConfig()).stops == (tokenizer_of(family).eos_token_id, 3, 517)
    (folder / "generation_config.json").write_text("{", encoding="utf-8")
    with pytest.raises(ModelError, match=r"generation_config.json cannot be read: ") as caught:
        format_of_folder(folder, ThinkingConfig())
    assert len(str(caught.value).splitlines()) == 1


def test_a_mistral_folder_with_a_tokenizer_of_its_own_form_too_has_the_format_of_its_template(tmp_path: Path) -> None:
    spec = find_spec("mistral_common")
    assert spec is not None and spec.origin is not None
    (own, *_) = sorted((Path(spec.origin).parent / "data").glob("tekken*.json"))
    family = families.family("magistral")
    folder = write_folder(family, tmp_path)
    shutil.copy(own, folder / "tekken.json")
    (folder / "config.json").write_text('{"model_type": "mistral"}', encoding="utf-8")
    assert format_of_folder(folder, ThinkingConfig()) == format_of(family)


def test_a_published_model_has_the_format_that_it_was_trained_in(tmp_path: Path) -> None:
    folder = write_folder(families.family("chatml"), tmp_path)
    trained = replace(format_of(families.family("chatml")), opening="<risk>\n", closing="\n</risk>\n", shown=True)
    write_manifest(folder, "r", 3, "c", None, trained)
    assert format_of_folder(folder, ThinkingConfig()) == trained == read_published(folder).chat
    assert format_of_folder(folder, ThinkingConfig(open="<think>", close="</think>")) == trained


def test_a_warmed_up_model_has_the_format_that_it_was_taught(tmp_path: Path) -> None:
    folder = write_folder(families.family("chatml"), tmp_path)
    taught = replace(format_of(families.family("chatml")), shown=True)
    write_chat(folder, taught)
    assert format_of_folder(folder, ThinkingConfig()) == taught


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ('<|channel|>final<|message|>{"a": 1}', '{"a": 1}'),
        ('<|channel|>final <|constrain|>json<|message|>{"a": 1}', '{"a": 1}'),
        ("<|channel|>analysis<|message|>T<|end|><|start|>assistant<|channel|>final json<|message|>A", "A"),
    ],
)
def test_channel_headers_with_a_format_are_read_like_those_without(text: str, answer: str) -> None:
    chat = format_of(families.family("gptoss"))
    assert chat.behind_thinking(chat.canonical(text)) == answer


@pytest.mark.parametrize("chat", ["", "3", '{"chat": 3}', '{"chat": {"nothing": 1}}'])
def test_a_manifest_whose_format_cannot_be_read_is_one_line(chat: str, tmp_path: Path) -> None:
    folder = write_folder(families.family("chatml"), tmp_path)
    (folder / "rapo.json").write_text(chat, encoding="utf-8")
    with pytest.raises(ModelError, match=r"rapo.json cannot be read \(\w+\): publish it again") as caught:
        format_of_folder(folder, ThinkingConfig())
    assert len(str(caught.value).splitlines()) == 1


def test_the_docs_have_the_table_of_families() -> None:
    page = (ROOT / "docs" / "chat-formats.md").read_text(encoding="utf-8")
    assert f"\n{table()}\n" in page, "print it with `python -m tests.chat_table`"
    for setting in ThinkingConfig.model_fields:
        assert f"`model.thinking.{setting}`" in page
