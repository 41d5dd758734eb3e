"""The reader of a model's chat format: what its tokenizer and chat template show by rendering short conversations.

Thinking is looked for where templates take it (fields of the assistant's turn, or parts of its content), at the end of
the generation prompt, and at last among the marks that the template's source or the tokenizer's vocabulary names.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rapo_ray.config.judge import JudgeBackendConfig
from rapo_ray.config.thinking import ThinkingConfig
from rapo_ray.errors import ModelError
from rapo_ray.models.chat import PLAIN, ChatFormat
from rapo_ray.models.folder import one_line
from rapo_ray.models.published import read_chat

SETTING = "model.thinking"  # the section that errors name
# What no template contains or changes.
USER, SYSTEM, THOUGHT, ANSWER = "Xuserx1?", "Xsystemx2.", "Xthoughtx3.", "Xanswerx4."

# Openings and closings that no field of a turn renders, with the white space that their models write.
KNOWN = (
    ("<think>\n", "\n</think>\n\n"),
    ("[THINK]", "[/THINK]"),
    ("<seed:think>", "</seed:think>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|channel>thought\n", "\n<channel|>"),
    ("<thought>\n", "\n</thought>\n\n"),
    ("<thinking>\n", "\n</thinking>\n\n"),
    ("<reasoning>\n", "\n</reasoning>\n\n"),
)
WRAPS = (("<response>", "</response>"), ("<answer>", "</answer>"), ("<|START_RESPONSE|>", "<|END_RESPONSE|>"))
# Template arguments that switch thinking, with the values for on and off; None leaves the argument out.
SWITCHES: tuple[tuple[str, Any, Any], ...] = (
    ("enable_thinking", True, False),
    ("thinking", True, False),
    ("thinking_mode", "enabled", "disabled"),
    ("reasoning", True, False),
    ("thinking_budget", None, 0),
    ("reasoning_effort", "high", None),
)
OFF_WORD = "/no_think"
_TAG = re.compile(r"(?:<\|[^<>|]+\|>\w+<\|[^<>|]+\|>|<[^<>\s]+>|\[[^\[\]\s]+\])\s*\Z")
_SIMPLE_TAG = re.compile(r"(?:<\w+>|\[\w+\])\s*\Z")

Messages = list[dict[str, Any]]


def format_of_folder(
    folder: Path, thinking: ThinkingConfig, tokenizer: Any = None, setting: str = SETTING, thinks: bool = True
) -> ChatFormat:
    """The chat format of the model in a folder, as `read_format`; one that we trained has it in writing."""
    if (written := read_chat(folder)) is not None:
        return written
    if tokenizer is None:
        tokenizer = load_tokenizer(folder)
    stops = _stops(folder / "generation_config.json")
    return read_format(tokenizer, thinking, stops, str(folder), setting, thinks)


def judge_format(judge: JudgeBackendConfig, part: str, model: Path) -> ChatFormat:
    """The chat format of a vllm judge's model; raises ModelError where it has none, which a guard need not have."""
    try:
        return format_of_folder(
            model, judge.thinking, setting=f"judge.{part}.thinking", thinks=judge.max_thinking_tokens > 0
        )
    except ModelError:
        if judge.guard is None:
            raise
        return PLAIN


def special_ids(tokenizer: Any) -> set[int]:
    """Tokens that decoding skips as special: those that the tokenizer has a role for, and those its file marks so."""
    marked = {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}
    return marked.union(tokenizer.all_special_ids)


def stated_format(thinking: ThinkingConfig) -> ChatFormat:
    """The format of completions without a template to read: the plain one, or the marks that the settings state."""
    start, end = thinking.answer or ("", "")
    if thinking.open is None or thinking.close is None:
        return replace(PLAIN, answer_start=start, answer_end=end)
    return ChatFormat(f"{thinking.open}\n", f"\n{thinking.close}\n\n", start, end, shown=True)


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer in a folder; raises ModelError."""
    from transformers import AutoTokenizer

    try:  # beside a tekken.json it would give Mistral's own tokenizer, which has no chat template
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, mistral_format=False)
    except Exception as error:  # whatever the library raises, for the user it is one error
        raise ModelError(f"the tokenizer in {folder} cannot be read: {one_line(str(error))}") from error


def read_format(
    tokenizer: Any,
    thinking: ThinkingConfig | None = None,
    stops: tuple[int, ...] = (),
    name: str = "the model",
    setting: str = SETTING,
    thinks: bool = True,
) -> ChatFormat:
    """The chat format that a tokenizer's template shows; raises ModelError, in one line, where it cannot be told.

    One that never thinks is an error unless `thinks` is False.
    """
    return _Reader(tokenizer, thinking or ThinkingConfig(), stops, name, setting, thinks).read()


def describe(chat: ChatFormat) -> str:
    """A format in one line, for people."""
    thinking = "opened by the prompt" if chat.opened else "opened by the model"
    shown = "" if chat.shown else " (not in the template: a warm-up teaches them)"
    if chat.off is not None:
        off = "off by " + (", ".join(f"{name}={value}" for name, value in chat.off.items()) or "default")
    else:
        off = f"off by {chat.off_word!r} in the system turn" if chat.off_word else "no switch"
    on = ", ".join(f"{name}={value}" for name, value in chat.on.items())
    parts = [
        f"thinking {chat.open_mark!r} .. {chat.close_mark!r}{shown}, {thinking}",
        f"on by {on}; {off}" if on else off,
        f"answer in {chat.answer_start.strip()!r} .. {chat.answer_end.strip()!r}" if chat.answer_start else "",
        f"a turn ends in {chat.end!r}",
        "marks are special tokens" if chat.mark_ids else "",
        "" if chat.system else "no system turn",
        "content as parts" if chat.parts else "",
    ]
    return "; ".join(part for part in parts if part)


def _stops(path: Path) -> tuple[int, ...]:
    """End tokens that a generation_config.json names; none where there is no such file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id")
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"{path} cannot be read: {one_line(str(error))}") from None
    ids = content if isinstance(content, list) else [content]
    return tuple(each for each in ids if isinstance(each, int))


class _Reader:
    """One reading of one template."""

    def __init__(
        self, tokenizer: Any, thinking: ThinkingConfig, stops: tuple[int, ...], name: str, setting: str, thinks: bool
    ) -> None:
        self._tokenizer = tokenizer
        self._setting = setting
        self._thinks = thinks
        self._thinking = thinking
        self._name = name
        self._parts = False
        template = tokenizer.chat_template
        if not template:
            raise ModelError(
                f"{name}: the tokenizer has no chat template (a base model): name a model that has one, "
                "or put a chat_template.jinja beside its tokenizer"
            )
        self._source: str = template if isinstance(template, str) else "\n".join(template.values())
        own = tokenizer.eos_token_id
        self._stops = tuple(dict.fromkeys([*([] if own is None else [own]), *stops]))

    def read(self) -> ChatFormat:
        """The format."""
        self._parts = self._reads_parts_alone()
        self._check_user()
        on, off = self._switch()
        prompt = self._prompt(on)
        opening, closing, answer_start, shown = self._marks(prompt, on, off)
        opened, lead = prompt.rstrip().endswith(opening.strip()), ""
        if opened:
            written = prompt[len(prompt.rstrip()) :]  # the white space behind the mark, all or the beginning of it
            behind = opening[len(opening.rstrip()) :]
            lead = behind.removeprefix(written) if behind.startswith(written) else ""
        elif prompt.rstrip().endswith(closing.strip()) and not self._thinks:
            off = {}
        elif prompt.rstrip().endswith(closing.strip()):
            raise ModelError(
                f"{self._name}: its chat template closes the thinking in the prompt, so every completion would be an "
                f"answer alone: set {self._setting}.template_kwargs to what opens it"
            )
        end, end_id, answer_end = self._end(on, (opening, closing))
        between = self._before_answer(prompt, on)
        answer_start, answer_end = self._wrap(answer_start, answer_end, between)
        skipping = closing + answer_start
        if not opened:
            skipping = between if re.search(r"[<\[]", between) else opening + skipping
        chat = ChatFormat(
            opening, closing, answer_start, answer_end, opened, lead, skipping, on, off, shown=shown,
            parts=self._parts, system=self._takes_system(), end=end, end_id=end_id,
            off_word=OFF_WORD if off is None and self._obeys_off_word(on, closing) else "",
        )  # fmt: skip
        return replace(chat, mark_ids=self._special_in(chat), stops=self._all_stops(end_id))

    def _marks(self, prompt: str, on: Mapping[str, Any], off: Mapping[str, Any] | None) -> tuple[str, str, str, bool]:
        """Opening, closing, what opens the answer, and True where template or settings show them."""
        rendered = self._rendered_marks(prompt, on)
        if self._thinking.open is not None and self._thinking.close is not None:
            chosen = (self._thinking.open, self._thinking.close)
            self._check_marks(chosen, rendered)
            return (*chosen, "", True)
        if rendered is not None:
            return (*rendered, True)
        if (ending := self._marks_of_prompt(prompt, on)) is not None:
            return (*ending, "", True)
        opening, closing, shown = self._named_marks()
        between = self._before_answer(prompt, on)
        for text in (between, self._try_prompt(off or {}) or ""):
            opening, closing = _spaced_as(text, opening, closing)
        if not between.strip() and not (between == " " and self._begins_with_space()):
            opening = between + opening
        return opening, closing, "", shown

    def _check_marks(self, chosen: tuple[str, str], rendered: tuple[str, str, str] | None) -> None:
        """Raises ModelError for marks in the settings where the template renders others."""
        if rendered is not None and [mark.strip() for mark in chosen] != [mark.strip() for mark in rendered[:2]]:
            raise ModelError(
                f"{self._name}: {self._setting}.open and close say {chosen[0]!r} and {chosen[1]!r}, but its chat "
                f"template renders thinking between {rendered[0]!r} and {rendered[1]!r}: leave them out"
            )

    def _begins_with_space(self) -> bool:
        """True where the tokenizer itself puts a space before a text."""
        tokens: list[str] = self._tokenizer.convert_ids_to_tokens(self._tokenizer.encode("a", add_special_tokens=False))
        return tokens[0].startswith("\u2581")

    def _named_marks(self) -> tuple[str, str, bool]:
        """Opening and closing that the template's source names, and True; else the vocabulary's, or the plain ones."""
        named = [pair for pair in KNOWN if any(mark.strip() in self._source for mark in pair)]
        if len(named) > 1:
            marks = " and ".join(pair[0].strip() for pair in named)
            raise ModelError(
                f"{self._name}: its chat template names {marks}, and which of them is its thinking cannot be told: "
                f"set {self._setting}.open and {self._setting}.close"
            )
        if named:
            return *named[0], True
        added = {str(token) for token in self._tokenizer.added_tokens_decoder.values()}
        known = [pair for pair in KNOWN if added.issuperset(mark.strip() for mark in pair)]
        return *(known[0] if len(known) == 1 else (PLAIN.opening, PLAIN.closing)), False

    def _rendered_marks(self, prompt: str, on: Mapping[str, Any]) -> tuple[str, str, str] | None:
        """The marks around a thought that the template renders from a field, or a part, of the assistant's turn."""
        answers: list[dict[str, Any]] = [
            {**self._turn("assistant", ANSWER), name: THOUGHT}
            for name in ("reasoning_content", "reasoning", "thinking")
        ]
        thought = {"type": "thinking", "thinking": THOUGHT}
        answers.append({"content": [thought, {"type": "text", "text": ANSWER}]})
        for answer in answers:
            text = self._try([self._turn("user", USER), {"role": "assistant", **answer}], on) or ""
            before, _, rest = text.partition(THOUGHT)
            between, _, behind = rest.partition(ANSWER)
            if not between.strip() or THOUGHT in behind or ANSWER in before or _quotes_parts(text):
                continue
            opening = before[len(prompt) :] if before.startswith(prompt) else ""
            opening = opening if opening.strip() else self._opening_of_prompt(before, prompt, on)
            if opening.strip():
                return (opening, *_closing_and_wrap(between))
        return None

    def _opening_of_prompt(self, before: str, prompt: str, on: Mapping[str, Any]) -> str:
        """The opening that a prompt ends in: its last tag, or what it has beyond the prompt of a plain answer."""
        plain = self._plain(on)
        tag = _TAG.search(before)
        if tag is not None and not plain.rstrip().endswith(tag[0].strip()):
            return tag[0]
        return _beyond(prompt, plain)

    def _marks_of_prompt(self, prompt: str, on: Mapping[str, Any]) -> tuple[str, str] | None:
        """The marks of a prompt that ends in an opening; raises ModelError where nothing shows the closing."""
        known = {opening.strip(): closing for opening, closing in KNOWN}
        tag = _TAG.search(prompt)
        if tag is None:
            return None
        mark, lead = tag[0].strip(), tag[0][len(tag[0].rstrip()) :]
        if mark not in known and self._plain(on).rstrip().endswith(mark):
            return None  # it opens every answer: a role's mark
        counterpart = known.get(mark, "").strip() or mark[0] + "/" + mark[1:]
        if counterpart in self._source or mark in known:
            return mark + lead, f"{lead}{counterpart}{lead * 2}"
        if _SIMPLE_TAG.search(mark) and not mark.startswith("[/") and not self._is_special(mark):
            raise ModelError(
                f"{self._name}: its prompt ends in {mark!r}, and its chat template does not show what closes that: "
                f"set {self._setting}.open and {self._setting}.close"
            )
        return None

    def _switch(self) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """Template arguments with thinking on, and off; None where no argument switches it off."""
        chosen = self._thinking.template_kwargs or {}
        default = self._prompt({})
        for name, on_value, off_value in SWITCHES:
            if name not in self._source:
                continue
            on: dict[str, Any] = {} if on_value is None else {name: on_value}
            off: dict[str, Any] = {} if off_value is None else {name: off_value}
            opened, closed = (self._try_prompt(each) for each in (on, off))
            if opened is None or closed is None or opened == closed:
                continue
            if name == "reasoning_effort" and not _closes(default):
                continue  # it says how much to think, not whether
            on, off = ({} if text == default else each for text, each in ((opened, on), (closed, off)))
            others = {key: value for key, value in chosen.items() if key != name}
            return on | chosen, others | off
        opens = _closes(default) and not _closes(self._prompt(chosen))
        return dict(chosen), {} if opens else None

    def _obeys_off_word(self, on: Mapping[str, Any], closing: str) -> bool:
        """True where the word in the system turn makes the prompt close the thinking."""
        if OFF_WORD not in self._source:
            return False
        text = self._try([self._turn("system", OFF_WORD), self._turn("user", USER)], on, prompt=True) or ""
        return text.rstrip().endswith(closing.strip())

    def _before_answer(self, prompt: str, on: Mapping[str, Any]) -> str:
        """The text between a prompt and an answer that comes without thinking."""
        plain = self._plain(on)
        return plain[len(prompt) :] if plain.startswith(prompt) else ""

    def _plain(self, on: Mapping[str, Any]) -> str:
        """The text before an answer that comes without thinking."""
        text = self._try([self._turn("user", USER), self._turn("assistant", ANSWER)], on) or ""
        return text.partition(ANSWER)[0] if ANSWER in text else ""

    def _end(self, on: Mapping[str, Any], marks: tuple[str, str]) -> tuple[str, int, str]:
        """The token that ends a turn, its id, and the text between an answer and that token."""
        if self._thinking.end_of_turn is not None:
            return self._named_end(self._thinking.end_of_turn)
        turn = [self._turn("user", USER), self._turn("assistant", ANSWER)]
        tails = [
            (self._try(messages, on) or "").partition(ANSWER)[2].partition(USER)[0]
            for messages in (turn, [*turn, self._turn("user", USER)])  # some write the end as the next turn begins
        ]
        for wanted in (self._is_stop, self._is_added):
            for tail in tails:
                before = ""
                for token in self._tokenizer.encode(tail, add_special_tokens=False):
                    text = self._tokenizer.decode([token], skip_special_tokens=False)
                    if wanted(token) and not any(text.strip() in mark for mark in marks):
                        return text, token, before
                    before += text
        if self._tokenizer.eos_token_id is None:
            raise ModelError(
                f"{self._name}: neither its chat template nor its tokenizer names a token that ends a turn: "
                f"set {self._setting}.end_of_turn"
            )
        return self._tokenizer.eos_token, self._tokenizer.eos_token_id, ""

    def _named_end(self, name: str) -> tuple[str, int, str]:
        token = self._tokenizer.get_vocab().get(name)
        if token is None:
            raise ModelError(f"{self._name}: {self._setting}.end_of_turn={name!r} is no token of its tokenizer")
        return name, token, ""

    def _is_stop(self, token: int) -> bool:
        return token in self._stops

    def _is_special(self, token: str) -> bool:
        return self._tokenizer.get_vocab().get(token) in special_ids(self._tokenizer)

    def _is_added(self, token: int) -> bool:
        return token in self._tokenizer.added_tokens_decoder

    def _all_stops(self, end_id: int) -> tuple[int, ...]:
        return tuple(dict.fromkeys([*self._stops, end_id]))

    def _wrap(self, answer_start: str, answer_end: str, between: str) -> tuple[str, str]:
        """The texts that wrap an answer, as rendered, as set, or as the template's source names them."""
        if self._thinking.answer is not None:
            return self._thinking.answer
        for start, end in WRAPS:
            if answer_end.strip() == end and between.strip().endswith(start) and not answer_start:
                return start, answer_end
        if not answer_start.strip() and not answer_end.strip():
            for start, end in WRAPS:
                if self._wraps_answers(start, end):
                    return start, end
        return answer_start, answer_end

    def _wraps_answers(self, start: str, end: str) -> bool:
        """True where the source shows a wrap by itself, behind a thought, or as what it looks for in answers."""
        behind_thought = rf"</think>[\s\\n'\"+~-]*{re.escape(start)}"
        looked_for = rf"['\"]{re.escape(end)}['\"]\s+in\b|split\(['\"]{re.escape(end)}"
        return end in self._source and (
            start + end in self._source or re.search(f"{behind_thought}|{looked_for}", self._source) is not None
        )

    def _special_in(self, chat: ChatFormat) -> tuple[int, ...]:
        """Special tokens in the marks, which decoding must keep."""
        marks = "".join((chat.opening, chat.closing, chat.skipping, chat.answer_start, chat.answer_end))
        return tuple(
            sorted(special_ids(self._tokenizer).intersection(self._tokenizer.encode(marks, add_special_tokens=False)))
        )

    def _reads_parts_alone(self) -> bool:
        """True where the template drops, or refuses, content that is a plain text."""
        return USER not in (self._try([{"role": "user", "content": USER}], {}) or "")

    def _check_user(self) -> None:
        messages = [self._turn("user", USER)]
        try:
            text = self._render(messages, {}, prompt=True)
        except Exception as error:  # a template is code, and may raise anything
            raise ModelError(f"{self._name}: its chat template refuses a user's turn: {one_line(str(error))}") from None
        if USER not in text:
            raise ModelError(f"{self._name}: its chat template leaves out what the user says")

    def _takes_system(self) -> bool:
        messages = [self._turn("system", SYSTEM), self._turn("user", USER)]
        return SYSTEM in (self._try(messages, {}) or "")

    def _turn(self, role: str, content: str) -> dict[str, Any]:
        return {"role": role, "content": [{"type": "text", "text": content}] if self._parts else content}

    def _prompt(self, arguments: Mapping[str, Any]) -> str:
        try:
            return self._render([self._turn("user", USER)], arguments, prompt=True)
        except Exception as error:  # a template is code, and may raise anything
            raise ModelError(
                f"{self._name}: its chat template refuses {self._setting}.template_kwargs={dict(arguments)}: "
                f"{one_line(str(error))}"
            ) from None

    def _try_prompt(self, arguments: Mapping[str, Any]) -> str | None:
        return self._try([self._turn("user", USER)], arguments, prompt=True)

    def _try(self, messages: Messages, arguments: Mapping[str, Any], prompt: bool = False) -> str | None:
        try:
            return self._render(messages, arguments, prompt)
        except Exception:  # a template is code: whatever it raises, it does not take these turns
            return None

    def _render(self, messages: Messages, arguments: Mapping[str, Any], prompt: bool) -> str:
        text: str = self._tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=prompt, **arguments
        )
        return text


def _closing_and_wrap(between: str) -> tuple[str, str]:
    """The closing of a thought and what opens the answer, of the text between both: lines apart, they are two marks."""
    start = next((between.index(start) for start, _ in WRAPS if between.find(start) > 0), None)
    if start is not None:
        return between[:start], between[start:]
    match = re.match(r"(\s*[^\n]+\n*)(.*)\Z", between, re.DOTALL)
    assert match is not None
    return match[1], match[2]


def _spaced_as(text: str, opening: str, closing: str) -> tuple[str, str]:
    """Marks with the white space that they have in an empty thought, where a text ends in one."""
    block = re.search(rf"{re.escape(opening.strip())}(\s*){re.escape(closing.strip())}(\s*)\Z", text)
    if block is None:
        return opening, closing
    if not block[1]:
        opening, closing = opening.rstrip(), closing.lstrip()
    return opening, closing.rstrip() + block[2]


def _beyond(text: str, other: str) -> str:
    """The text from where it differs from another."""
    same = next((index for index, pair in enumerate(zip(text, other, strict=False)) if pair[0] != pair[1]), None)
    return text[min(len(text), len(other)) if same is None else same :]


def _quotes_parts(text: str) -> bool:
    """True where a template wrote a list of parts down as it is instead of reading it."""
    return "'type'" in text or '"type"' in text


def _closes(prompt: str) -> bool:
    tag = _TAG.search(prompt)
    return tag is not None and "/" in tag[0]
