"""Tokenizers with the chat templates of model families, for tests of the reader of chat formats.

Publishers' templates are read from trl's package (a development dependency). Templates of families that trl lacks are
our own, in the shape that the publishers document: the same marks, turns, fields and arguments, in other words.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from jinja2 import UndefinedError

from rapo_ray.config.thinking import ThinkingConfig
from rapo_ray.models.chat import ChatFormat
from rapo_ray.models.chat_template import read_format
from tests.tiny import tiny_tokenizer

THINK = ("<think>", "</think>")  # added to most vocabularies, but not as special tokens
# Sets `t` to a turn's thinking, from its field or from its content `c`.
READ_THOUGHT = (
    "{% set t = m['reasoning_content'] | default('', true) %}"
    "{% if '</think>' in c %}{% set t = c.split('</think>')[0].split('<think>')[-1].strip('\\n') %}"
    "{% set c = c.split('</think>')[-1].lstrip('\\n') %}{% endif %}"
)
IM_USER = "<|im_start|>user\n{{ c }}<|im_end|>\n"
IM_SYSTEM = "<|im_start|>system\n{{ c }}<|im_end|>\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Models that share a chat template and the tokens in it."""

    name: str
    models: str  # examples, for people
    template: str | None  # a file of trl, or a text
    special: tuple[str, ...] = ()
    added: tuple[str, ...] = ()  # tokens of the vocabulary that are not special
    eos: str | None = "<|im_end|>"
    stops: tuple[str, ...] = ()  # further ends of a turn, as generation_config.json names them


def template(system: str, user: str, assistant: str, prompt: str, head: str = "") -> str:
    """A chat template, of the text of each turn, with `m` for its message and `c` for its content."""
    return (
        head + "{% for m in messages %}{% set c = m['content'] %}"
        "{% if m['role'] == 'system' %}" + system + "{% elif m['role'] == 'user' %}" + user + "{% else %}" + assistant
        + "{% endif %}{% endfor %}{% if add_generation_prompt %}" + prompt + "{% endif %}"
    )  # fmt: skip


def trl_templates() -> dict[str, str]:
    """Texts of the chat templates in trl's package, by name."""
    spec = find_spec("trl")
    assert spec is not None and spec.submodule_search_locations, "trl is a development dependency"
    folder = Path(spec.submodule_search_locations[0]) / "chat_templates"
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.jinja"))}


@cache
def tokenizer_of(family: Family) -> Any:
    """A tiny tokenizer with the family's tokens and template."""
    from transformers import AddedToken, PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tiny_tokenizer(),
        bos_token="<|endoftext|>",
        eos_token=family.eos,
        pad_token="<|endoftext|>",
        clean_up_tokenization_spaces=False,
    )
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in family.added])
    special = [AddedToken(token, special=True, normalized=False) for token in family.special]
    tokenizer.add_special_tokens({"additional_special_tokens": special})
    tokenizer.chat_template = trl_templates().get(family.template or "", family.template)
    return tokenizer


def stops_of(family: Family) -> tuple[int, ...]:
    """Ids of the ends of a turn that generation_config.json names."""
    vocabulary = tokenizer_of(family).get_vocab()
    return tuple(vocabulary[token] for token in family.stops)


@cache
def format_of(family: Family) -> ChatFormat:
    """The family's chat format as the reader finds it."""
    return read_format(tokenizer_of(family), ThinkingConfig(), stops_of(family), family.name)


def write_folder(family: Family, folder: Path) -> Path:
    """Write the family's tokenizer files into a folder, as a publisher does."""
    tokenizer_of(family).save_pretrained(folder)
    if family.stops:
        ends = [tokenizer_of(family).eos_token_id, *stops_of(family)]
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}), encoding="utf-8")
    return folder


DEEPSEEK = {
    "special": ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"),
    "added": ("<｜User｜>", "<｜Assistant｜>", *THINK),
    "eos": "<｜end▁of▁sentence｜>",
}
GEMMA4 = {
    "special": ("<eos>", "<|turn>", "<turn|>", "<|channel>", "<channel|>", "<|think|>"),
    "eos": "<eos>",
    "stops": ("<turn|>",),
}
GLM = {
    "special": ("[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"),
    "added": THINK,
    "eos": "<|endoftext|>",
    "stops": ("<|user|>", "<|observation|>"),
}
GEMMA = {
    "special": ("<eos>", "<start_of_turn>", "<end_of_turn>"), "eos": "<eos>", "stops": ("<end_of_turn>",)
}  # fmt: skip
LLAMA3 = {
    "special": ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|eom_id|>"),
    "eos": "<|eot_id|>",
}
PHI3 = {
    "special": ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"), "eos": "<|endoftext|>", "stops": ("<|end|>",)
}  # fmt: skip
COHERE_TURNS = (
    "<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|SYSTEM_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>"
)  # fmt: skip
COHERE = {"special": COHERE_TURNS, "eos": "<|END_OF_TURN_TOKEN|>"}
COHERE_2 = {
    "special": (*COHERE_TURNS, "<|START_THINKING|>", "<|END_THINKING|>", "<|START_RESPONSE|>", "<|END_RESPONSE|>"),
    "eos": "<|END_OF_TURN_TOKEN|>",
}
MUSE = ("<|start|>", "<|message|>", "<|eom|>", "<|eot|>")
GPT_OSS = ("<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|call|>", "<|return|>")
VISION = {"special": ("<end_of_utterance>",), "eos": "<end_of_utterance>"}

# Publishers' templates, from trl: (template, models, tokens).
PUBLISHED: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("deepseek_r1_distill", "DeepSeek-R1-Distill", DEEPSEEK),
    ("deepseekv3", "DeepSeek-V3, R1", DEEPSEEK),
    ("qwen3", "Qwen3", {"added": THINK}),
    ("qwen3_5_think", "Qwen3.5", {"added": THINK}),
    ("qwen3_5_nothink", "Qwen3.5 small", {"added": THINK}),
    ("qwen3_6", "Qwen3.6", {"added": THINK}),
    ("qwen3_8", "Qwen3.8", {"added": THINK}),
    ("qwen3_instruct_2507", "Qwen3-Instruct-2507", {"added": THINK}),
    ("qwen3_vl", "Qwen3-VL", {"added": THINK}),
    ("qwen2_5", "Qwen2.5", {}),
    ("qwen2_5_vl", "Qwen2.5-VL", {}),
    ("gptoss", "gpt-oss", {"special": GPT_OSS, "eos": "<|return|>", "stops": ("<|endoftext|>", "<|call|>")}),
    ("glm4moe", "GLM-4.5, 4.6", GLM),
    ("nemotron_3_nano", "Nemotron-3-Nano", {"added": THINK}),
    ("nemotron_3_super", "Nemotron-3-Super", {"added": THINK}),
    ("nemotron_3_ultra", "Nemotron-3-Ultra", {"added": THINK}),
    ("nemotron_3_5_lightning", "Nemotron-3.5-Lightning", {"added": THINK}),
    ("lfm2", "LFM2", {}),
    ("lfm2_v2", "LFM2", {}),
    ("lfm2_2_5", "LFM2.5", {"added": THINK}),
    ("lfm2_2_5_v2", "LFM2.5 (later template)", {"added": THINK}),
    ("lfm2_2_5_vl", "LFM2.5-VL", {"added": THINK}),
    ("gemma4", "Gemma 4", GEMMA4),
    ("gemma4_v2", "Gemma 4", GEMMA4),
    ("gemma4_v3", "Gemma 4", GEMMA4),
    ("gemma4_v4", "Gemma 4", GEMMA4),
    ("gemma4_v5", "Gemma 4 (fifth template)", GEMMA4),
    ("diffusion_gemma", "DiffusionGemma", GEMMA4),
    ("muse_glimmer", "Muse Glimmer", {"special": MUSE, "eos": "<|eot|>"}),
    ("gemma", "Gemma, Gemma 2", GEMMA),
    ("gemma3", "Gemma 3", GEMMA),
    ("llama3", "Llama-3-Instruct", LLAMA3),
    ("llama3_1", "Llama-3.1-Instruct", LLAMA3),
    ("llama3_2", "Llama-3.2-Instruct", LLAMA3),
    ("phi3", "Phi-3", PHI3),
    ("phi3_5", "Phi-3.5", PHI3),
    ("cohere", "Aya Expanse", COHERE),
    ("cohere2", "Tiny Aya", COHERE_2),
    ("idefics3", "Idefics3", VISION),
    ("smolvlm", "SmolVLM", VISION),
    ("llava_next", "LLaVA-NeXT", {"special": ("</s>",), "eos": "</s>"}),
)

QWQ = template(
    IM_SYSTEM,
    IM_USER,
    "<|im_start|>assistant\n" + READ_THOUGHT
    + "{% if loop.last and t %}<think>\n{{ t }}\n</think>\n\n{% endif %}{{ c }}<|im_end|>\n",
    "<|im_start|>assistant\n<think>\n",
)  # fmt: skip
MINIMAX_M2 = template(
    "]~b]system\n{{ c }}[e~[\n",
    "]~b]user\n{{ c }}[e~[\n",
    "]~b]ai\n" + READ_THOUGHT + "{% if loop.last and t %}<think>\n{{ t }}\n</think>\n\n{% endif %}{{ c }}[e~[\n",
    "]~b]ai\n<think>\n",
)
MINIMAX_M3 = template(
    "]~b]system\n{{ c }}[e~[\n",
    "]~b]user\n{{ c }}[e~[\n",
    "]~b]ai\n{% if m['reasoning_content'] %}<mm:think>{{ m['reasoning_content'] }}{% endif %}</mm:think>{{ c }}[e~[\n",
    "]~b]ai\n{% if thinking_mode == 'enabled' %}<mm:think>{% elif thinking_mode == 'disabled' %}</mm:think>{% endif %}",
)
NEMOTRON_SWITCH = (
    "{% if '/think' in c %}{% set ns.quiet = false %}{% elif '/no_think' in c %}{% set ns.quiet = true %}{% endif %}"
)
NEMOTRON_NANO_V2 = template(
    "<SPECIAL_10>System\n{{ c }}\n" + NEMOTRON_SWITCH,
    "<SPECIAL_11>User\n{{ c }}\n" + NEMOTRON_SWITCH,
    "{% if not (loop.last and add_generation_prompt) %}<SPECIAL_11>Assistant\n"
    "{% if '</think>' in c %}<think>\n{% endif %}{{ c }}\n<SPECIAL_12>\n{% endif %}",
    "<SPECIAL_11>Assistant\n{% if ns.quiet %}<think></think>{% else %}<think>\n{% endif %}"
    "{% if messages[-1]['role'] == 'assistant' %}{{ messages[-1]['content'] }}{% endif %}",
    head="{% set ns = namespace(quiet=false) %}",
)
GLM_47 = template(
    "<|system|>{{ c }}",
    "<|user|>{{ c }}",
    "<|assistant|>" + READ_THOUGHT + "{% if loop.last and t %}<think>{{ t }}{% endif %}</think>{{ c }}",
    "<|assistant|>{% if enable_thinking is defined and not enable_thinking %}</think>{% else %}<think>{% endif %}",
    head="[gMASK]<sop>",
)
SMOLLM3 = template(
    IM_SYSTEM,
    IM_USER,
    "<|im_start|>assistant\n{{ c }}<|im_end|>\n",
    "<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n{% endif %}",
)
KIMI_K2 = template(
    "<|im_system|>system<|im_middle|>{{ c }}<|im_end|>",
    "<|im_user|>user<|im_middle|>{{ c }}<|im_end|>",
    "<|im_assistant|>assistant<|im_middle|><think></think>{{ c }}<|im_end|>",
    "<|im_assistant|>assistant<|im_middle|>",
)
DEEPSEEK_V31 = template(
    "{{ c }}",
    "<｜User｜>{{ c }}",
    "<｜Assistant｜></think>{{ c.split('</think>')[-1] }}<｜end▁of▁sentence｜>",
    "<｜Assistant｜>{% if thinking is defined and thinking %}<think>{% else %}</think>{% endif %}",
    head="<｜begin▁of▁sentence｜>",
)
GRANITE_33 = template(
    "<|start_of_role|>system<|end_of_role|>{{ c }}<|end_of_text|>\n",
    "<|start_of_role|>user<|end_of_role|>{{ c }}<|end_of_text|>\n",
    "<|start_of_role|>assistant<|end_of_role|>{{ c }}<|end_of_text|>\n",
    "<|start_of_role|>assistant<|end_of_role|>",
    head="{% if thinking %}<|start_of_role|>system<|end_of_role|>Think first, between <think></think>; then "
    "answer, between <response></response>.<|end_of_text|>\n{% endif %}",
)
HUNYUAN = template(
    "{{ c }}<|extra_4|>",
    "<|startoftext|>{{ c }}<|extra_0|>",
    "{% if '<answer>' in c and not loop.last %}{% set c = c.split('<answer>')[1].split('</answer>')[0] %}{% endif %}"
    "{{ c }}<|eos|>",
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n{% endif %}",
)
ERNIE = template(
    IM_SYSTEM,
    IM_USER,
    "<|im_start|>assistant\n" + READ_THOUGHT
    + "{% if loop.last and t %}<think>\n{{ t }}\n</think>\n\n{% endif %}<response>\n{{ c }}\n</response>\n<|im_end|>\n",
    "<|im_start|>assistant\n<think>\n",
)  # fmt: skip
MAGISTRAL = template(
    "[SYSTEM_PROMPT]{{ c }}[/SYSTEM_PROMPT]",
    "[INST]{{ c }}[/INST]",
    "{{ c }}</s>",
    "",
    head="<s>{% if messages[0]['role'] != 'system' %}[SYSTEM_PROMPT]Think first: [THINK]your thoughts[/THINK], then "
    "answer.[/SYSTEM_PROMPT]{% endif %}",
)
MINISTRAL = template(
    "[SYSTEM_PROMPT]{{ c }}[/SYSTEM_PROMPT]",
    "[INST]{{ c }}[/INST]",
    "{% if c is string %}{{ c }}{% else %}{% for part in c %}{% if part['type'] == 'thinking' %}"
    "[THINK]{{ part['thinking'] }}[/THINK]{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}</s>",
    "",
    head="<s>",
)
SEED_OSS = template(
    "<seed:bos>system\n{{ c }}<seed:eos>",
    "<seed:bos>user\n{{ c }}<seed:eos>",
    "<seed:bos>assistant\n{{ c }}<seed:eos>",
    "<seed:bos>assistant\n{% if thinking_budget == 0 %}<seed:think>I answer at once.</seed:think>{% endif %}",
)
APERTUS = template(
    "<|system_start|>{{ c }}<|system_end|>",
    "<|user_start|>{{ c }}<|user_end|>",
    "<|assistant_start|>{% if m['thoughts'] %}<|inner_prefix|>{{ m['thoughts'] }}<|inner_suffix|>{% endif %}{{ c }}"
    "<|assistant_end|>",
    "<|assistant_start|>",
    head="<|developer_start|>Deliberation: {{ 'enabled' if enable_thinking else 'disabled' }}<|developer_end|>",
)
COMMAND_A = template(
    "<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>{{ c }}<|END_OF_TURN_TOKEN|>",
    "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>{{ c }}<|END_OF_TURN_TOKEN|>",
    "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|><|START_RESPONSE|>{{ c }}<|END_RESPONSE|><|END_OF_TURN_TOKEN|>",
    "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>"
    "{% if reasoning is defined and not reasoning %}<|START_THINKING|><|END_THINKING|>{% endif %}",
)
LLAMA_GUARD = (
    "{% for m in messages %}{{ m['role'] }}: {% for part in m['content'] %}{% if part['type'] == 'text' %}"
    "{{ part['text'] }}{% endif %}{% endfor %}<|eot_id|>{% endfor %}{% if add_generation_prompt %}verdict: {% endif %}"
)
MISTRAL_SMALL = template(
    "[SYSTEM_PROMPT]{{ c }}[/SYSTEM_PROMPT]", "[INST]{{ c }}[/INST]", "{{ c }}</s>", "", head="<s>"
)
ROLE_TAGS = template(
    "<system>{{ c }}</system>", "<user>{{ c }}</user>", "<assistant>{{ c }}</assistant><|im_end|>", "<assistant>"
)
CHATML = template(IM_SYSTEM, IM_USER, "<|im_start|>assistant\n{{ c }}<|im_end|>\n", "<|im_start|>assistant\n")
IM = ("<|im_user|>", "<|im_assistant|>", "<|im_system|>", "<|im_middle|>", "[EOS]")
NEMOTRON = ("<SPECIAL_10>", "<SPECIAL_11>", "<SPECIAL_12>")
MISTRAL = ("<s>", "</s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[THINK]", "[/THINK]")
APERTUS_TOKENS = (
    "</s>", "<|system_start|>", "<|system_end|>", "<|developer_start|>", "<|developer_end|>", "<|user_start|>",
    "<|user_end|>", "<|assistant_start|>", "<|assistant_end|>", "<|inner_prefix|>", "<|inner_suffix|>",
)  # fmt: skip
OWN: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("qwq", "QwQ, Qwen3-Thinking-2507", QWQ, {"added": THINK}),
    ("minimax_m2", "MiniMax-M2", MINIMAX_M2, {"special": ("]~b]", "[e~["), "added": THINK, "eos": "[e~["}),
    ("minimax_m3", "MiniMax-M3", MINIMAX_M3, {"special": ("]~b]", "[e~["), "eos": "[e~["}),
    ("nemotron_nano_v2", "Nemotron-Nano-v2", NEMOTRON_NANO_V2,
     {"special": NEMOTRON, "added": THINK, "eos": "<SPECIAL_12>"}),
    ("glm_4_7", "GLM-4.7-Flash", GLM_47, GLM),
    ("smollm3", "SmolLM3", SMOLLM3, {"added": THINK}),
    ("kimi_k2", "Kimi-K2-Thinking", KIMI_K2,
     {"special": IM, "added": THINK, "eos": "[EOS]", "stops": ("<|im_end|>",)}),
    ("deepseek_v3_1", "DeepSeek-V3.1, V3.2", DEEPSEEK_V31, DEEPSEEK),
    ("granite_3_3", "Granite-3.3", GRANITE_33,
     {"special": ("<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>"), "eos": "<|end_of_text|>"}),
    ("hunyuan", "Hunyuan-A13B", HUNYUAN,
     {"special": ("<|startoftext|>", "<|extra_0|>", "<|extra_4|>", "<|eos|>"), "eos": "<|eos|>"}),
    ("ernie", "ERNIE-4.5-Thinking", ERNIE, {"added": (*THINK, "<response>", "</response>")}),
    ("magistral", "Magistral", MAGISTRAL, {"special": MISTRAL, "eos": "</s>"}),
    ("ministral", "Ministral-3-Reasoning", MINISTRAL, {"special": MISTRAL, "eos": "</s>"}),
    ("seed_oss", "Seed-OSS", SEED_OSS,
     {"special": ("<seed:bos>", "<seed:eos>", "<seed:think>", "</seed:think>"), "eos": "<seed:eos>"}),
    ("apertus", "Apertus", APERTUS,
     {"special": APERTUS_TOKENS, "eos": "</s>", "stops": ("<|assistant_end|>",)}),
    ("command_a", "Command A Reasoning", COMMAND_A, COHERE_2),
    ("llama_guard", "Llama-Guard-3-1B", LLAMA_GUARD, LLAMA3),
    ("mistral_small", "Mistral-Small-3.2", MISTRAL_SMALL, {"special": MISTRAL, "eos": "</s>"}),
    ("role_tags", "role tags", ROLE_TAGS, {}),
    ("chatml", "ChatML", CHATML, {}),
)  # fmt: skip

FAMILIES: tuple[Family, ...] = (
    *(Family(name=name, models=models, template=name, **tokens) for name, models, tokens in PUBLISHED),
    *(Family(name=name, models=models, template=text, **tokens) for name, models, text, tokens in OWN),
)
BASE = Family(name="base", models="", template=None)
DEAF = Family(name="deaf", models="", template="{{ messages | length }} turn(s)")
REFUSING = Family(name="refusing", models="", template="{{ raise_exception('no turn is right') }}")
UNKNOWN_CLOSING = Family(
    name="unknown_closing", models="",
    template=template(IM_SYSTEM, IM_USER, "<|im_start|>assistant\n{{ c }}<|im_end|>\n",
                      "<|im_start|>assistant\n<ponder>\n"),
)  # fmt: skip
AMBIGUOUS = Family(
    name="ambiguous", models="",
    template=CHATML + "{# either <think> and </think>, or <reasoning> and </reasoning> #}",
)  # fmt: skip
CLOSED = Family(
    name="closed", models="", added=THINK,
    template=template(IM_SYSTEM, IM_USER, "<|im_start|>assistant\n{{ c }}<|im_end|>\n",
                      "<|im_start|>assistant\n<think>\n\n</think>\n\n"),
)  # fmt: skip
NO_END = Family(
    name="no_end", models="", eos=None,
    template="{% for m in messages %}{{ m['content'] }}\n{% endfor %}",
)  # fmt: skip
SWITCHED = Family(
    name="switched", models="", added=THINK,
    template=template(IM_SYSTEM, IM_USER, "<|im_start|>assistant\n{{ c }}<|im_end|>\n",
                      "<|im_start|>assistant\n{% if depth != 'deep' %}<think>\n\n</think>\n\n{% endif %}"),
)  # fmt: skip


def family(name: str) -> Family:
    """The family of a name."""
    return next(each for each in FAMILIES if each.name == name)


def rendered_by(family: Family, user: str, thinking: str, answer: str) -> str:
    """The field of a turn that the template makes the training text of; "" where it makes that of none."""
    chat, tokenizer = format_of(family), tokenizer_of(family)
    turns = chat.turns(None, user)

    def render(more: list[dict[str, Any]], prompt: bool) -> str:
        text: str = tokenizer.apply_chat_template(
            [*turns, *more], tokenize=False, add_generation_prompt=prompt, **chat.on
        )
        return text

    training = render([], prompt=True) + chat.compose(thinking, answer)
    for field, turn in _turns(chat, thinking, answer):
        try:
            text = render([turn], prompt=False)
        except (TypeError, UndefinedError):  # of a template that does not read this content
            continue
        text = text.removesuffix(tokenizer.eos_token or "")  # with which some end the conversation, not the turn
        if text.rstrip() in (training.rstrip(), (training + chat.end).rstrip()):
            return field
    return ""


def _turns(chat: ChatFormat, thinking: str, answer: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The assistant's turn in each of the forms that templates take, by the field of the thinking."""
    for field in ("reasoning_content", "thinking"):
        yield field, {"role": "assistant", "content": answer, field: thinking}
    wrapped = chat.answer_start + answer + chat.answer_end
    for opening in (chat.opening, chat.opening.lstrip(), ""):
        for text in (wrapped, answer):
            yield "content", _assistant(chat, opening + thinking + chat.closing + text)


def _assistant(chat: ChatFormat, content: str) -> dict[str, Any]:
    (turn,) = chat.turns(None, content)
    return turn | {"role": "assistant"}
