"""Answers of the endpoint, whole and streamed, in the formats of models: pure parts with hand-written fakes."""

import asyncio
import importlib.util
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rapo_ray.errors import ServingError
from rapo_ray.models.chat import PLAIN, ChatFormat, parse_completion
from rapo_ray.serving.answers import (
    ChoiceText,
    EventReader,
    Seen,
    Shape,
    collect,
    shape_plain,
    shape_plain_stream,
    shape_stream,
    shape_whole,
)
from rapo_ray.serving.cuts import SEPARATOR, StopCutter, Strays, TokenStripper
from rapo_ray.serving.problems import Problem
from rapo_ray.serving.prompts import PromptReader
from rapo_ray.serving.reasoning import CHUNK
from tests.chat_tokenizers import FAMILIES, Family, family, format_of, tokenizer_of

pytestmark = pytest.mark.unit


CHATML = (
    "{% for turn in messages %}<|im_start|>{{ turn['role'] }}\n{{ turn['content'] }}<|im_end|>\n{% endfor %}"
    "<|im_start|>assistant\n"
)
R1 = ChatFormat(opened=True, skipping="\n</think>\n\n")
CHANNELS = ChatFormat(
    opening="<|channel|>analysis<|message|>",
    closing="<|end|><|start|>assistant<|channel|>final<|message|>",
    skipping="<|channel|>final<|message|>",
    mark_ids=(1, 2),
)
BRACKETS = ChatFormat(opening="[THINK]", closing="[/THINK]", skipping="[THINK][/THINK]", mark_ids=(1,))
WRAPPED = ChatFormat(opening="<think>", closing="</think>", answer_start="<response>", answer_end="</response>")
GLM = ChatFormat(opening="\n<think>", closing="</think>\n", opened=True, skipping="</think>\n")
MARK_TOKENS = {
    CHANNELS.opening: ("<|start|>", "<|end|>", "<|message|>", "<|channel|>"),
    BRACKETS.opening: ("[THINK]", "[/THINK]"),
}
COMMENTARY = "<|end|><|start|>assistant<|channel|>commentary<|message|>"
FORMATS = {"plain": PLAIN, "r1": R1, "channels": CHANNELS, "brackets": BRACKETS, "wrapped": WRAPPED, "glm": GLM}


@dataclass
class Token:
    """A token of a tokenizer's own list."""

    content: str
    special: bool = True


class Tokenizer:
    """A tokenizer that only renders turns, as transformers does."""

    def __init__(self, template: str, special: tuple[str, ...] = ()) -> None:
        environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
        self._template = environment.from_string(template)
        self.added_tokens_decoder = {number: Token(text) for number, text in enumerate(special)}
        self.all_special_ids: list[int] = []

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        return [self.added_tokens_decoder.get(id, Token("<unk>")).content for id in ids]

    def apply_chat_template(self, messages: Any, **arguments: Any) -> str:
        def refuse(message: str) -> None:
            raise jinja2.TemplateError(message)

        return self._template.render(messages=messages, raise_exception=refuse, **arguments)


def published_template(name: str) -> str:
    """A publisher's template, as trl has it."""
    spec = importlib.util.find_spec("trl")
    assert spec is not None and spec.origin is not None
    return (Path(spec.origin).parent / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def system(text: str) -> dict[str, Any]:
    return {"role": "system", "content": text}


@pytest.mark.parametrize(
    ("template", "chat", "turns", "beginning"),
    [
        (CHATML, PLAIN, [user("hi")], "none"),
        (CHATML + "<think>\n", R1, [user("hi")], "opened"),
        (CHATML + "<think>\n\n</think>\n\n", R1, [user("hi")], "closed"),
        (CHATML + "<think></think><response>", WRAPPED, [user("hi")], "closed"),
        (CHATML, CHANNELS, [user("hi")], "none"),
        (CHATML + "<|channel|>final<|message|>", CHANNELS, [user("hi")], "closed"),
        ("{{ messages[-1]['content'] }}\n", PLAIN, [user("Explain </think>")], "none"),
        ("{{ messages[-1]['content'] }}\n", PLAIN, [user("Explain <think>")], "opened"),
        ("{{ messages[-1]['content'] }}\n", CHANNELS, [user("Explain <|channel|>final<|message|>")], "none"),
    ],
)
def test_thinking_begins_as_the_rendered_prompt_ends(
    template: str, chat: ChatFormat, turns: Any, beginning: str
) -> None:
    prompt = PromptReader(Tokenizer(template), chat).read(turns, split=True)
    assert (prompt.turns, prompt.beginning) == (turns, beginning)


def test_a_system_turn_may_close_the_thinking() -> None:
    obeying = Tokenizer(CHATML + "{{ '<think></think>' if '/no_think' in messages[0]['content'] else '<think>' }}")
    for word, beginning in (("/no_think", "closed"), ("Say <think></think>.", "opened")):
        assert PromptReader(obeying, R1).read([system(word), user("hi")], split=True).beginning == beginning


@pytest.mark.parametrize(
    ("template", "thinking", "beginning"),
    [
        ("qwen3", True, "none"), ("qwen3", False, "closed"), ("nemotron_3_nano", True, "opened"),
        ("nemotron_3_nano", False, "closed"), ("deepseek_r1_distill", True, "opened"),
    ],
)  # fmt: skip
def test_publishers_templates_obey_their_arguments(template: str, thinking: bool, beginning: str) -> None:
    chat = ChatFormat(on={"enable_thinking": thinking})
    reader = PromptReader(Tokenizer(published_template(template)), chat)
    assert reader.read([user("hi")], split=True).beginning == beginning


def test_an_answer_that_quotes_a_mark_stays_whole_in_the_history() -> None:
    quoting = {"role": "assistant", "content": "The tag </think> ends it."}
    turns = [user("hi"), quoting, user("The tag </think> ends it.")]
    qwen = PromptReader(Tokenizer(published_template("qwen3")), PLAIN)
    assert qwen.read(turns, split=True).turns == [turns[0], {**quoting, "reasoning": ""}, turns[2]]
    cutting = PromptReader(Tokenizer(CHATML.replace("turn['content']", "turn['content'].split('</think>')[-1]")), R1)
    broken = cutting.read(turns, split=True).turns[1]["content"]
    assert broken == "The tag <\u200b/think> ends it."
    assert PromptReader(Tokenizer(CHATML), R1).read(turns, split=True).turns == turns
    assert cutting.read(turns, split=False).turns == turns  # there, it is the thinking of our own answer


def test_earlier_answers_that_begin_with_a_quoted_mark_or_are_equal_stay_whole() -> None:
    tagged = {"role": "assistant", "content": "<think> opens it and </think> closes it."}
    qwen = PromptReader(Tokenizer(published_template("qwen3")), PLAIN)
    bare = {**tagged, "reasoning": ""}
    assert qwen.read([user("hi"), tagged, user("and?")], split=True).turns == [user("hi"), bare, user("and?")]
    twice = [user("hi"), tagged, user("again"), tagged, user("and?")]
    assert qwen.read(twice, split=True).turns == [user("hi"), bare, user("again"), bare, user("and?")]


class CountingTokenizer(Tokenizer):
    """A tokenizer that counts its renderings."""

    def __init__(self, template: str) -> None:
        super().__init__(template)
        self.renderings = 0

    def apply_chat_template(self, messages: Any, **arguments: Any) -> str:
        self.renderings += 1
        return super().apply_chat_template(messages, **arguments)


def test_a_long_history_of_quotations_is_rendered_a_few_times() -> None:
    cutting = CountingTokenizer(CHATML.replace("turn['content']", "turn['content'].split('</think>')[-1]"))
    turns = [turn for number in range(30) for turn in (user("hi"), assistant(f"{number} </think> ends it."))]
    PromptReader(cutting, R1).read([*turns, user("and?")], split=True)
    assert cutting.renderings <= 4


SAYS_SO = "{% if '/think' in turn %}<think>{% elif '/no_think' in turn %}<think></think>{% else %}<think>{% endif %}"
STRIPS = "{% set turn = messages[-1]['content'].replace('</think>', '') %}" + SAYS_SO
COMPARES = "{{ '<think></think>' if messages[-1]['content'] == '/no_think' else '<think>' }}"


@pytest.mark.parametrize("withheld", [False, True])
@pytest.mark.parametrize(
    ("template", "text"),
    [
        (family("nemotron_nano_v2").template, "/no_think What does </think> mean?"),
        (CHATML + "{% set turn = messages[-1]['content'] %}" + SAYS_SO, "/no_think What does </think> mean?"),
        (CHATML + STRIPS, "/no_think /thi</think>nk hi"),
        (CHATML + COMPARES, "/no_think "),
        (CHATML + COMPARES, "/no_think</think>"),
        (CHATML + COMPARES, "<think>/no_think"),
    ],
)
def test_the_thinking_is_over_only_in_the_prompt_that_the_engine_sees(template: str, text: str, withheld: bool) -> None:
    reader = PromptReader(Tokenizer(template), R1)
    assert reader.read([user(text)], split=True, withheld=withheld).beginning == "opened"
    assert reader.read([user("/no_think")], split=True, withheld=withheld).beginning == "closed"


def test_a_mark_in_a_turn_may_open_the_thinking_and_closes_none() -> None:
    reader = PromptReader(
        Tokenizer(CHATML + "<think>{{ '' if '<think>' in messages[-1]['content'] else '</think>' }}"), R1
    )
    for text, split, withheld in (("hi", "closed", "closed"), ("<think>", "opened", "closed")):
        assert reader.read([user(text)], split=True).beginning == split
        assert reader.read([user(text)], split=True, withheld=True).beginning == withheld  # the engine sees no mark
    reader = PromptReader(Tokenizer("{{ messages[-1]['content'] }}"), R1)
    assert reader.read([user("</think>")], split=True).beginning == "none"


def test_an_assistant_s_turn_at_the_end_is_read_with_the_prompt() -> None:
    reader = PromptReader(tokenizer_of(family("nemotron_nano_v2")), R1)
    silent = system("/no_think")
    for turns, split, withheld in (
        ([user("hi"), assistant("Bread")], "opened", "opened"),
        ([silent, user("hi"), assistant("<think>")], "opened", "none"),
        ([silent, user("hi"), assistant("<think> a")], "opened", "none"),
        ([user("hi"), assistant("a </think>")], "closed", "opened"),
        ([user("What is <think>?"), assistant("a </think> b")], "none", "opened"),
        ([silent, user("What is <think>?"), assistant("Bread")], "none", "none"),
    ):
        assert reader.read(turns, split=True).beginning == split
        assert reader.read(turns, split=True, withheld=True).beginning == withheld


def test_where_thinking_is_withheld_the_model_sees_no_mark_that_it_could_copy() -> None:
    own = system("Think between [THINK] and [/THINK].")
    reader = PromptReader(Tokenizer(CHATML, ("<s>", "[THINK]", "[/THINK]")), BRACKETS, own["content"])
    turns = [own, {**user("[THINK]hi"), "name": "[/THINK]"}, assistant("a[/THINK]b"), user("[/THI[/THINK]NK]")]
    prompt = reader.read(turns, split=True, withheld=True).turns
    assert prompt[0] == own
    assert "[THINK]" not in str(prompt[1:]) and "[/THINK]" not in str(prompt[1:])
    assert [turn["content"].replace("\u200b", "") for turn in prompt] == [turn["content"] for turn in turns]
    merged = PromptReader(Tokenizer(CHATML), replace(BRACKETS, system=False), own["content"])
    (first, *_) = merged.read([own, user("[/THINK]")], split=True, withheld=True).turns
    assert first["content"] == own["content"] + "\n\n[\u200b/THINK]"


def test_a_template_without_system_turns_gets_their_text_with_the_user_s() -> None:
    reader = PromptReader(Tokenizer("{{ messages[0]['content'] }}"), ChatFormat(system=False))
    answer = {"role": "assistant", "content": "a"}
    assert reader.read([system("be safe"), user("hi"), answer, system("now"), user("and?")], split=True).turns == [
        user("be safe\n\nhi"), answer, user("now\n\nand?"),
    ]  # fmt: skip
    assert reader.read([user("hi"), system("be safe")], split=True).turns == [user("hi"), user("be safe")]


def test_a_template_that_refuses_or_reads_parts() -> None:
    refusing = PromptReader(Tokenizer("{{ raise_exception('roles') }}"), PLAIN)
    with pytest.raises(Problem, match="does not take these turns"):
        refusing.read([user("hi")], split=True)
    parts = Tokenizer("{% for part in messages[0]['content'] %}{{ part['text'] }}{% endfor %}<think>")
    prompt = PromptReader(parts, ChatFormat(parts=True)).read([user("hi")], split=True)
    assert (prompt.beginning, prompt.turns) == ("opened", [user("hi")])


def test_special_tokens_besides_the_marks_are_stray() -> None:
    special = Tokenizer(CHATML, ("<s>", "[THINK]", "[/THINK]", "[INST]"))
    reader = PromptReader(special, replace(BRACKETS, mark_ids=(1, 2)))
    assert (reader.strays.tokens, reader.mark_tokens) == (("[INST]", "<s>"), ("[THINK]", "[/THINK]"))
    assert PromptReader(special, PLAIN).strays.tokens == ()  # the engine leaves them out


each_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)


@each_family
def test_a_family_s_prompt_and_completion_are_split_as_they_are_parsed(family: Family) -> None:
    chat = format_of(family)
    reader = PromptReader(tokenizer_of(family), chat)
    beginning = reader.read([user(f"What is {chat.closing}?")], split=True).beginning
    assert beginning == ("opened" if chat.opened else "none")
    text = chat.compose("I weigh the risk.", "Bread needs flour.")
    for strict in (False, True):
        assert split_stream(text, [1] * len(text), chat, beginning, strict, False) == (
            "I weigh the risk.", "Bread needs flour.",
        )  # fmt: skip
    assert split_stream(text[:-1], [], replace(chat, closing="<never>"), beginning, True, True)[1] == ""
    assert not any(token in text for token in reader.strays.tokens)
    if chat.off is not None:
        off = PromptReader(tokenizer_of(family), replace(chat, on=chat.off)).read([user("hi")], split=True)
        assert off.beginning in ("closed", "none")


@each_family
@pytest.mark.parametrize("mark", ["open_mark", "close_mark"])
def test_a_family_s_template_renders_a_quoting_answer_whole(family: Family, mark: str) -> None:
    chat = format_of(family)
    answer = {"role": "assistant", "content": f"The tag {getattr(chat, mark)} ends it."}
    turns = [user("hi"), answer, user("and?")]
    tokenizer = tokenizer_of(family)
    prompt = PromptReader(tokenizer, chat).read(turns, split=True)
    sent = [{**turn, "reasoning_content": turn["reasoning"]} if "reasoning" in turn else turn for turn in prompt.turns]
    in_parts = [{**turn, "content": [{"type": "text", "text": turn["content"]}]} for turn in sent]
    rendered = tokenizer.apply_chat_template(
        in_parts if chat.parts else sent, tokenize=False, add_generation_prompt=True, **chat.on
    )
    assert prompt.turns[1]["content"] in rendered and prompt.turns[1]["content"].endswith(" ends it.")


# --- answers --------------------------------------------------------------------------------------------------------

WHOLE = "<think>\nThe user asks for bread.\nThere is no risk.\n</think>\n\nBake it <b>.\n"


def split_stream(text: str, sizes: list[int], chat: ChatFormat, beginning: Any, strict: bool, cut_off: bool) -> Any:
    """Thinking and answer of a completion that arrives in pieces of these sizes."""
    choice, pieces, rest = ChoiceText(form_of(chat, beginning, strict)), [], text
    for size in sizes:
        pieces += choice.feed(rest[:size], None)[1]
        rest = rest[size:]
    pieces += choice.feed(rest, "length" if cut_off else "stop")[1]
    return tuple("".join(part for one, part in pieces if one == kind) for kind in ("reasoning", "content"))


def form_of(chat: ChatFormat, beginning: Any, withheld: bool, **more: Any) -> Shape:
    return shape(
        withheld=withheld, chat=chat, beginning=beginning, mark_tokens=MARK_TOKENS.get(chat.opening, ()), **more
    )


@pytest.mark.parametrize(
    ("text", "chat", "beginning", "reasoning", "content"),
    [
        (WHOLE, PLAIN, "none", "The user asks for bread.\nThere is no risk.", "Bake it <b>."),
        ("No thoughts.", PLAIN, "none", "", "No thoughts."),
        ("<think>\nnever ends", PLAIN, "none", "never ends", ""),
        ("<thin", PLAIN, "none", "", "<thin"),
        ("", PLAIN, "none", "", ""),
        ("<think>a</thi b</think>c</think>d", PLAIN, "none", "a</thi b", "c</think>d"),
        ("I weigh it.\n</think>\n\nFlour.", R1, "opened", "I weigh it.", "Flour."),
        ("<think>\nI weigh it.\n</think>\n\nFlour.", R1, "opened", "I weigh it.", "Flour."),
        ("never ends", R1, "opened", "never ends", ""),
        ("Flour. </think> is a tag.", R1, "closed", "", "Flour. </think> is a tag."),
        ("<think>\nAgain.\n</think>\n\nFlour.", R1, "closed", "Again.", "Flour."),
        (CHANNELS.opening + "I weigh it." + CHANNELS.closing + "Flour.", CHANNELS, "none", "I weigh it.", "Flour."),
        ("<|channel|>final<|message|>Flour.", CHANNELS, "none", "", "Flour."),
        ("[THINK]I weigh it.[/THINK]Flour.", BRACKETS, "none", "I weigh it.", "Flour."),
        ("<think>a</think><response>Flour.</response>\n", WRAPPED, "none", "a", "Flour."),
        ("<think>a</think>b </response> c", WRAPPED, "none", "a", "b </response> c"),
        ("<think>a</think><response>b</response></response>", WRAPPED, "none", "a", "b</response>"),
        ("\nI weigh it.</think>\nFlour.", GLM, "opened", "I weigh it.", "Flour."),
    ],
)
def test_thinking_and_answer(text: str, chat: ChatFormat, beginning: Any, reasoning: str, content: str) -> None:
    for size in (1, 2, 3, len(text) or 1):
        sizes = [size] * len(text)
        assert split_stream(text, sizes, chat, beginning, False, False) == (reasoning, content)


@pytest.mark.parametrize(
    ("text", "chat", "beginning"),
    [
        ("I weigh it, and write", R1, "opened"),
        ("The answer first, then\n<think>\na thought", PLAIN, "none"),
        ("<write>\nThe user asks for bread.\n</write>", PLAIN, "none"),
        ("<think>\nI weigh it.\n</think", PLAIN, "none"),
        ("<", PLAIN, "none"),
        ("<|channel|>commentary<|message|>I weigh it.", CHANNELS, "none"),
        ("[/THINK", BRACKETS, "none"),
    ],
)
@pytest.mark.parametrize("cut_off", [False, True])
def test_withheld_is_all_but_what_follows_a_closing_mark(
    text: str, chat: ChatFormat, beginning: Any, cut_off: bool
) -> None:
    assert split_stream(text, [1] * len(text), chat, beginning, True, cut_off)[1] == ""
    answered = text + chat.closing + "Flour."
    assert split_stream(answered, [1] * len(answered), chat, beginning, True, cut_off)[1] == "Flour."


@pytest.mark.parametrize("beginning", ["opened", "none"])
def test_withheld_is_a_thought_that_quotes_the_closing_mark(beginning: Any) -> None:
    thought = "The user asks what </think> means.\n</think> is a tag, </think>\nsays\n </think>\nI weigh it."
    for size in (1, 3, 1000):
        sizes = [size] * len(thought)
        text = thought + "\n</think>\n\nIt is a tag."
        assert split_stream(text, sizes, R1, beginning, True, False) == (thought, "It is a tag.")
        assert split_stream(thought, sizes, R1, beginning, True, False)[1] == ""


@pytest.mark.parametrize(
    ("text", "chat", "content"),
    [
        ("<think>\na\n</think>\n\nFlour.\n<think>\nI weigh it.\n</think>\n\nWater.", PLAIN, "Flour.\n\nWater."),
        ("<think>\na\n</think>\n\n<think>\nI weigh it.\n</think>\n\nWater.", PLAIN, "Water."),
        ("[THINK]a[/THINK]Flour. [THINK]I weigh it.", BRACKETS, "Flour."),
        ("<think>\na\n</think>\n\nFlour.<think>I weigh it.", PLAIN, "Flour."),
        ("<think>\na\n</think>\n\nThe tag <think> opens it.", PLAIN, "The tag"),
        ("<think>a</think><response>Flour.</response><think>I weigh it.", WRAPPED, "Flour."),
        (
            "<|channel|>final<|message|>Flour.<|end|><|start|>assistant<|channel|>commentary<|message|>I.",
            CHANNELS,
            "Flour.",
        ),
        (
            "<|channel|>final<|message|>Flour." + COMMENTARY + "I weigh it." + CHANNELS.closing + "Water.",
            CHANNELS,
            "Flour.Water.",
        ),
        ("<|channel|>final<|message|>Flour.<|channel|>final<|message|>Water.", CHANNELS, "Flour.Water."),
    ],
)
def test_withheld_is_a_thought_that_an_answer_opens_again(text: str, chat: ChatFormat, content: str) -> None:
    for size in (1, 3, len(text)):
        assert split_stream(text, [size] * len(text), chat, "none", True, False)[1] == content


def test_withheld_is_a_thought_behind_an_answer_that_the_prompt_begins() -> None:
    for text, chat in (("Flour." + COMMENTARY + "I.", CHANNELS), ("Flour.<think>I.", R1)):
        assert split_stream(text, [1] * len(text), chat, "closed", True, False)[1] == "Flour."


@pytest.mark.parametrize(
    ("text", "chat", "reasoning", "content"),
    [
        ("<", PLAIN, "", ""),
        ("<think", PLAIN, "", ""),
        ("<think>\nI weigh it.\n</th", PLAIN, "I weigh it.", ""),
        ("<think>a</think><respo", WRAPPED, "a", ""),
        ("<think>a</think><response>Flour.</respo", WRAPPED, "a", "Flour."),
        ("<think>a</think>1 < 2", WRAPPED, "a", "1 < 2"),
    ],
)
def test_the_part_of_a_mark_at_the_end_of_a_truncated_completion_is_dropped(
    text: str, chat: ChatFormat, reasoning: str, content: str
) -> None:
    assert split_stream(text, [1] * len(text), chat, "none", False, True) == (reasoning, content)


WORDS = st.text(st.sampled_from("ab <>/|[]\n"), max_size=12)


@given(st.sampled_from(sorted(FORMATS)), WORDS, WORDS, st.lists(st.integers(1, 7), max_size=40), st.booleans())
def test_every_cut_of_a_completion_is_split_as_it_is_parsed(
    name: str, thinking: str, answer: str, sizes: list[int], strict: bool
) -> None:
    chat = FORMATS[name]
    text = chat.compose(thinking, answer)
    parsed = parse_completion(text, False, chat)
    pieces = split_stream(text, sizes, chat, "opened" if chat.opened else "none", strict, False)
    assert pieces == (parsed.thinking, parsed.answer)


PARTS = [
    "<think>",
    "</think>",
    "\n",
    " ",
    "a",
    "<",
    "</thi",
    "b.",
    "k>",
    "<response>",
    "</response>",
    "</resp",
    "[THINK]",
    "[/T",
]


@given(
    st.sampled_from([PLAIN, R1, WRAPPED, BRACKETS]), st.lists(st.sampled_from(PARTS), max_size=12),
    st.lists(st.integers(1, 7), max_size=40), st.sampled_from(["opened", "closed", "none"]), st.booleans(),
    st.booleans(),
)  # fmt: skip
def test_the_pieces_of_the_text_change_nothing(
    chat: ChatFormat, parts: list[str], sizes: list[int], beginning: Any, strict: bool, cut_off: bool
) -> None:
    text = "".join(parts)
    whole = split_stream(text, [], chat, beginning, strict, cut_off)
    assert split_stream(text, sizes, chat, beginning, strict, cut_off) == whole


@given(st.text(st.sampled_from("abc"), max_size=20), st.lists(st.integers(1, 3), max_size=20))
def test_an_answer_is_cut_at_the_stop_string_that_is_complete_first(text: str, sizes: list[int]) -> None:
    stops = ("abca", "bc", "cab")
    cutter, rest, answer = StopCutter(stops), text, ""
    for size in sizes:
        answer += cutter.feed(rest[:size])
        rest = rest[size:]
    answer += cutter.feed(rest) + cutter.finish()
    ends = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
    assert answer == (text[: min(ends)[1]] if ends else text)
    assert cutter.stopped == bool(ends)


@given(st.lists(st.sampled_from(["<s>", "<", "s", ">", "a", "<s"]), max_size=12), st.lists(st.integers(1, 3)))
def test_stray_tokens_are_left_out_of_every_cut(parts: list[str], sizes: list[int]) -> None:
    text = "".join(parts)
    stripper, rest, left = TokenStripper(Strays(["<s>", "<pad>"])), text, ""
    for size in sizes:
        left += stripper.feed(rest[:size], last=False)
        rest = rest[size:]
    assert left + stripper.feed(rest, last=True) == text.replace("<s>", SEPARATOR)


def shape(reasoning: Any = "split", withheld: bool = False, usage: bool = False, **more: Any) -> Shape:
    return Shape(reasoning, withheld, "run-v3-abc", usage, **more)


BOTH = ("reasoning_content", "reasoning")
TOKENS = {"content": [{"token": "a", "logprob": -0.1}]}


def whole_answer(texts: tuple[str, ...] = (WHOLE,), finish: str = "stop", logprobs: Any = TOKENS) -> dict[str, Any]:
    """A whole answer as vLLM gives it."""
    messages = [{"role": "assistant", "content": text, "refusal": None} for text in texts]
    choices = [
        {"index": index, "message": message, "finish_reason": finish, "logprobs": logprobs, "token_ids": None}
        for index, message in enumerate(messages)
    ]
    return {"id": "x", "choices": choices, "usage": {"completion_tokens": 9}, "system_fingerprint": "vllm"}


def stream(texts: tuple[str, ...], size: int, finish: str = "stop", logprobs: Any = None) -> str:
    """A stream as from vLLM, with `size` characters per event; the choices take turns."""
    base = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    events: list[dict[str, Any]] = []

    def add(index: int, delta: dict[str, Any], reason: str | None, tokens: int) -> None:
        choice = {"index": index, "delta": delta, "finish_reason": reason, "logprobs": logprobs if tokens else None}
        usage = {"prompt_tokens": 5, "completion_tokens": tokens, "total_tokens": 5 + tokens}
        events.append({**base, "choices": [choice], "usage": usage})

    for index in range(len(texts)):
        add(index, {"role": "assistant", "content": ""}, None, 0)
    steps = -(-max(len(text) for text in texts) // size)
    for step in range(steps):
        for index, text in enumerate(texts):
            if piece := text[step * size : (step + 1) * size]:
                add(index, {"content": piece}, None, step + 1)
    for index in range(len(texts)):
        add(index, {"content": ""}, finish, steps)
    events.append({**base, "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 9, "total_tokens": 14}})
    return "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"


class Engine:
    """A stream of an engine, which knows what has been read of it."""

    def __init__(self, text: str) -> None:
        self.left = EventReader().feed(text)

    async def events(self) -> Any:
        while self.left:
            yield self.left.pop(0)


def shaped_stream(engine: Engine, form: Shape, seen: Seen | None = None) -> list[dict[str, Any]]:
    async def run() -> list[dict[str, Any]]:
        return [event async for event in shape_stream(engine.events(), form, seen or Seen())]

    return asyncio.run(run())


def collected(engine: Engine, form: Shape) -> dict[str, Any]:
    async def run() -> dict[str, Any]:
        return await collect(shape_stream(engine.events(), form, Seen()), form)

    return asyncio.run(run())


def texts_of(events: list[dict[str, Any]], index: int = 0) -> dict[str, str]:
    """Text of a stream by field."""
    deltas = [one["delta"] for event in events for one in event["choices"] if one["index"] == index]
    return {name: "".join(delta.get(name, "") for delta in deltas) for name in (*BOTH, "content")}


def test_a_whole_answer_in_each_shape() -> None:
    seen = Seen()
    thought = "The user asks for bread.\nThere is no risk."
    split = shape_whole(whole_answer(), shape(), seen)
    assert split["choices"][0]["message"] == {
        "role": "assistant", "content": "Bake it <b>.", "reasoning_content": thought, "reasoning": thought,
    }  # fmt: skip
    assert split["choices"][0]["logprobs"] == TOKENS
    assert split["system_fingerprint"] == "run-v3-abc"
    assert (seen.completion_tokens, seen.refusals, seen.trace_sentences) == (9, 0, [2])
    inline = shape_whole(whole_answer(), shape("inline"), Seen())["choices"][0]["message"]
    assert inline == {"role": "assistant", "content": WHOLE}
    withheld = shape_whole(whole_answer(), shape("inline", withheld=True), Seen())["choices"][0]
    assert withheld["message"] == {
        "role": "assistant", "content": "Bake it <b>.", "reasoning_content": None, "reasoning": None,
    }  # fmt: skip
    assert withheld["logprobs"] is None and "asks for bread" not in json.dumps(withheld)


@pytest.mark.parametrize("names", [BOTH, ("reasoning",), ("reasoning_content",)])
def test_the_field_of_the_thinking_has_the_names_that_are_set(names: tuple[str, ...]) -> None:
    form = shape(names=names)
    message = shape_whole(whole_answer(), form, Seen())["choices"][0]["message"]
    assert [name for name in BOTH if name in message] == [name for name in BOTH if name in names]
    texts = texts_of(shaped_stream(Engine(stream((WHOLE,), 3)), form))
    assert [name for name in BOTH if texts[name]] == [name for name in BOTH if name in names]


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize("withheld", [False, True])
def test_a_stream_is_shaped_as_it_comes(size: int, withheld: bool) -> None:
    seen = Seen()
    shaped = shaped_stream(Engine(stream((WHOLE,), size)), shape(withheld=withheld, usage=True), seen)
    texts = texts_of(shaped)
    assert texts["content"] == "Bake it <b>."
    assert texts["reasoning_content"] == ("" if withheld else "The user asks for bread.\nThere is no risk.")
    assert texts["reasoning"] == texts["reasoning_content"]
    assert [choice["finish_reason"] for event in shaped for choice in event["choices"]][-1] == "stop"
    assert shaped[-1]["usage"]["completion_tokens"] == 9 and shaped[0]["choices"][0]["delta"]["role"] == "assistant"
    assert all(event["system_fingerprint"] == "run-v3-abc" for event in shaped)
    assert (seen.completion_tokens, seen.trace_sentences) == (9, [2])


@pytest.mark.parametrize("beginning", ["opened", "none"])
@pytest.mark.parametrize("text", ["I weigh the risk first.\n</thi", "<", "<think", "I weigh"])
def test_withheld_thinking_leaves_by_no_field(text: str, beginning: Any) -> None:
    form = shape(withheld=True, usage=True, beginning=beginning, chat=R1)
    whole = shape_whole(whole_answer((text,), "length"), form, Seen())["choices"][0]
    assert whole["message"]["content"] == "" and whole["finish_reason"] == "length"
    for size in (1, 4):
        events = shaped_stream(Engine(stream((text,), size, "length", TOKENS)), form)
        deltas = [choice["delta"] for event in events for choice in event["choices"]]
        assert deltas == [{"role": "assistant", "content": ""}, {}]
        assert all(choice["logprobs"] is None for event in events for choice in event["choices"])


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_special_tokens_that_are_no_marks_do_not_leave(size: int) -> None:
    form = shape(chat=BRACKETS, strays=Strays(["<s>", "[INST]"]))
    text = "<s>[THINK]I weigh it.<s>[/THINK]Flour[INST] and water."
    assert texts_of(shaped_stream(Engine(stream((text,), size)), form))["content"] == "Flour and water."
    message = shape_whole(whole_answer((text,)), form, Seen())["choices"][0]["message"]
    assert (message["content"], message["reasoning"]) == ("Flour and water.", "I weigh it.")
    inline = shape("inline", chat=BRACKETS, strays=Strays(["<s>", "[INST]"]))
    content = "[THINK]I weigh it.[/THINK]Flour and water."
    assert texts_of(shaped_stream(Engine(stream((text,), size)), inline))["content"] == content
    assert shape_whole(whole_answer((text,)), inline, Seen())["choices"][0]["message"]["content"] == content


def test_what_is_around_a_stray_token_makes_no_mark() -> None:
    form = shape(chat=BRACKETS, strays=Strays(["<s>"]))
    text = "[THINK]a[/TH<s>INK]b[/THINK]c[TH<s>INK]d"
    message = shape_whole(whole_answer((text,)), form, Seen())["choices"][0]["message"]
    assert (message["reasoning"], message["content"]) == ("a[/THINK]b", "c[THINK]d")


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_stray_tokens_leave_by_no_plain_completion(size: int) -> None:
    form = shape("inline", strays=Strays(["<s>", "[INST]"]), n=2)
    texts = ("a<s>[THINK]b[INST]", "<s")
    choices = [{"index": index, "text": text, "finish_reason": "stop"} for index, text in enumerate(texts)]
    whole = shape_plain({"choices": choices, "usage": {"completion_tokens": 3}}, form, Seen())
    assert [choice["text"] for choice in whole["choices"]] == ["a[THINK]b", "<s"]
    events = [
        {"choices": [{"index": index, "text": text[at : at + size], "finish_reason": None}]}
        for index, text in enumerate(texts)
        for at in range(0, len(text), size)
    ]
    ends = [{"choices": [{"index": index, "text": "", "finish_reason": "stop"}]} for index in range(2)]

    async def run() -> list[Any]:
        async def given() -> Any:
            for event in (*events, *ends):
                yield event

        return [event async for event in shape_plain_stream(given(), form, Seen())]

    parts = [choice for event in asyncio.run(run()) for choice in event["choices"]]
    assert ["".join(part["text"] for part in parts if part["index"] == index) for index in range(2)] == [
        "a[THINK]b", "<s",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("stop", "content"),
    [
        ("\n\n", "Flour."),
        ("\n", "Flour."),
        ("\nUser:", ""),
        ("Flour", ""),
        (".\n", "Flour"),
        (" ", "Flour.\n\n\n\n\nUser:"),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 1000])
def test_a_stop_string_sees_the_white_space_of_the_answer(stop: str, content: str, size: int) -> None:
    head = "\n" if stop == "\nUser:" else ""
    text = "I weigh it.\n</think>\n\n" + head + ("User: me" if head else "Flour.\n\n\n\n\nUser: more")
    for withheld in (False, True):
        form = shape(withheld=withheld, beginning="opened", chat=R1, stops=(stop,))
        answer = collected(Engine(stream((text,), size, "length")), form)["choices"][0]
        assert (answer["message"]["content"], answer["finish_reason"]) == (content, "stop")


def test_a_stop_string_of_white_space_ends_the_answer_at_once() -> None:
    engine = Engine(stream(("I weigh it.\n</think>\n\nFlour.\n\n" + "\n" * 40,), 1, "length"))
    shaped_stream(engine, shape(beginning="opened", chat=R1, stops=("\n\n",)))
    assert len(engine.left) == 40 + 2


@pytest.mark.parametrize("withheld", [False, True])
def test_a_very_long_run_of_white_space_is_not_held_back_whole(withheld: bool) -> None:
    text = "I weigh it.\n</think>" + "\n" * 100_000 + "Flour." + "\n" * 100_000 + "Water." + "\n" * 100_000
    form = shape(withheld=withheld, beginning="opened", chat=R1, stops=("never",))
    for size in (1000, 400_000):
        content = texts_of(shaped_stream(Engine(stream((text,), size)), form))["content"]
        assert content.split() == ["Flour.", "Water."] and len(content) < 4 * CHUNK


def test_a_stream_that_ends_before_its_choices_is_an_error() -> None:
    whole = stream(STOPPING, 3)
    for missing, finished in ((2, 1), (3, 0)):  # the usage, and one end or both
        engine = Engine(whole)
        del engine.left[-missing:]
        with pytest.raises(ServingError, match=f"ended with {finished} of 2 choices"):
            shaped_stream(engine, shape(beginning="opened", chat=R1, n=2))


STOPPING = (
    "I weigh the END first.\n</think>\n\nBread needs flour. END And more of it, which is never read.",
    "The END is near.\n</think>\n\nWater.",
)


@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize("withheld", [False, True])
def test_a_stop_string_ends_the_answer_alone(size: int, withheld: bool) -> None:
    form = shape(withheld=withheld, usage=True, beginning="opened", chat=R1, stops=(" END", "never"), n=2)
    events = shaped_stream(Engine(stream(STOPPING, size)), form)
    assert [texts_of(events, index)["content"] for index in (0, 1)] == ["Bread needs flour.", "Water."]
    thoughts = ("", "") if withheld else ("I weigh the END first.", "The END is near.")
    assert tuple(texts_of(events, index)["reasoning"] for index in (0, 1)) == thoughts
    finishes = [one["finish_reason"] for event in events for one in event["choices"] if one["finish_reason"]]
    assert finishes == ["stop", "stop"]


def test_the_engine_is_left_once_every_choice_has_stopped() -> None:
    engine = Engine(stream(STOPPING[:1], 1))
    seen = Seen()
    form = shape(usage=True, beginning="opened", chat=R1, stops=(" END",))
    events = shaped_stream(engine, form, seen)
    tokens = STOPPING[0].rindex("END") + len("END")
    assert len(engine.left) == len(STOPPING[0]) - tokens + 2  # the rest of the text, its finish and its usage
    assert events[-1]["usage"] == {"prompt_tokens": 5, "completion_tokens": tokens, "total_tokens": 5 + tokens}
    assert seen.completion_tokens == tokens


def test_an_answer_with_stop_strings_is_whole_in_the_end() -> None:
    form = shape(usage=True, beginning="opened", chat=R1, stops=(" END",), n=2)
    answer = collected(Engine(stream(STOPPING, 2, logprobs=TOKENS)), form)
    assert answer["object"] == "chat.completion" and answer["usage"]["prompt_tokens"] == 5
    messages = [(one["finish_reason"], one["message"]) for one in answer["choices"]]
    assert messages == [
        ("stop", {"role": "assistant", "content": content, "reasoning_content": thought, "reasoning": thought})
        for thought, content in (("I weigh the END first.", "Bread needs flour."), ("The END is near.", "Water."))
    ]
    pieces = -(-(STOPPING[0].rindex("END") + len("END")) // 2)
    assert len(answer["choices"][0]["logprobs"]["content"]) == pieces
    withheld = collected(Engine(stream(STOPPING[:1], 2, logprobs=TOKENS)), shape(
        withheld=True, beginning="opened", chat=R1, stops=(" END",)))  # fmt: skip
    (choice,) = withheld["choices"]
    assert choice["message"]["content"] == "Bread needs flour." and choice["message"]["reasoning"] is None
    assert choice["logprobs"] is None and "weigh" not in json.dumps(withheld)


@pytest.mark.parametrize("size", [1, 5])
def test_log_probs_of_text_that_is_held_back_come_with_the_next_text(size: int) -> None:
    events = shaped_stream(Engine(stream((WHOLE,), size, logprobs=TOKENS)), shape())
    logprobs = [choice["logprobs"] for event in events for choice in event["choices"] if choice["logprobs"]]
    assert sum(len(one["content"]) for one in logprobs) == -(-len(WHOLE) // size) + 1


SEPARATED = "a\u2028b\u2029c\x85d \u00fc\U0001f600"  # JSON holds these as they are


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 10_000])
def test_events_of_a_stream_that_is_cut_anywhere(end: str, size: int) -> None:
    event = {"choices": [{"index": 0, "delta": {"content": SEPARATED}}]}
    line = json.dumps(event, ensure_ascii=False)
    text = f"data: {line}{end}{end}: a comment{end}data:{line}{end}{end}data: [DONE]{end}{end}"
    for whole in (text, text.encode()):
        reader = EventReader()
        pieces = [whole[start : start + size] for start in range(0, len(whole), size)]
        assert [one for piece in pieces for one in reader.feed(piece)] == [event, event]


# --- withheld thinking ----------------------------------------------------------------------------------------------

SECRET = "\u00a7"  # one character, so that no part of it can leave
PLAIN_QUOTES = (" </think> ", " <think> ", "\n</think> ", "</thi")
QUOTES = {
    "plain": PLAIN_QUOTES,
    "r1": PLAIN_QUOTES,
    "glm": (" </think> ", " <think> ", "</thi"),
    "wrapped": ("</thi<s>nk>", " <think> ", "<response>"),
    "brackets": ("[/TH<s>INK]", "[THINK]", "[/TH"),
    "channels": (COMMENTARY, "<|channel|>fi<s>nal<|message|>", "<|end|>", "<|channel|>analysis<|message|>"),
}


@st.composite
def thinking_texts(draw: st.DrawFn, name: str, beginning: str) -> tuple[str, bool]:
    """A completion whose thoughts hold secrets, cut off or whole, and True if its first answer is in it."""
    chat = FORMATS[name]

    def thought() -> str:
        parts = st.sampled_from([*QUOTES[name], "\n", " ", "a", "<", "<s>"])
        return SECRET + "".join(part + SECRET for part in draw(st.lists(parts, max_size=5)))

    def answer() -> str:
        return "Flour" + "".join(draw(st.lists(st.sampled_from([".", " ", "\n\n", "<", "<s>"]), max_size=4)))

    text = ("" if beginning == "closed" else chat.begin(thought(), closed=True)) + answer()
    first = len(text)
    for _ in range(draw(st.integers(0, 2))):
        again = [chat.open_mark, *([COMMENTARY, "<|start|>", "<|end|>"] if name == "channels" else [])]
        text += draw(st.sampled_from(again)) + thought()
        if draw(st.booleans()):
            text += chat.closing + chat.answer_start + answer()
    size = draw(st.integers(0, len(text)) | st.just(len(text)))
    return text[:size], size >= first


@pytest.mark.parametrize("name", QUOTES)
@given(data=st.data(), size=st.integers(1, 9))
def test_nothing_of_a_withheld_thought_leaves(data: st.DataObject, name: str, size: int) -> None:
    chat = FORMATS[name]
    beginning = data.draw(st.sampled_from(["closed", "opened", *([] if chat.opened else ["none"])]))
    (text, answered), (other, _) = (data.draw(thinking_texts(name, beginning)) for _ in range(2))
    stops = data.draw(st.sampled_from([(), ("\n\n",), (SECRET,), ("r.", "\nF")]))
    finish = data.draw(st.sampled_from(["stop", "length"]))
    form = form_of(chat, beginning, True, strays=Strays(["<s>"]), stops=stops, n=2, usage=True)
    logprobs = {"content": [{"token": SECRET, "logprob": -0.1}]}
    given_stream = stream((text, other), size, finish, logprobs)
    answers = [shaped_stream(Engine(given_stream), form), collected(Engine(given_stream), form)]
    if not stops:
        answers.append(shape_whole(whole_answer((text, other), finish, logprobs), form, Seen()))
    for answer in answers:
        assert SECRET not in json.dumps(answer, ensure_ascii=False)
    if answered and not stops:
        assert answers[-1]["choices"][0]["message"]["content"].startswith("Flour")
