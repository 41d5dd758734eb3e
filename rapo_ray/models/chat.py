"""The chat format of models: the turns before a completion, and a completion put together and taken apart (pure)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

from rapo_ray.types import Completion, Form, Turn

_CHANNEL = re.compile(r"<\|channel\|>(\w+)[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>")
_BLANK_LINE = re.compile(r"\n[^\S\n]*\n")
# Ends of a turn in common chat templates: between bars of either width, </s>, <end_of_turn> and so on.
COMMON_END = (
    r"<[|｜][^|｜<>]{1,40}[|｜]>|\[\|\w{1,40}\|\]|</s>|<eos>|<end_of_(?:turn|utterance)>|<turn\|>|<seed:eos>|\[e~\["
)

Conversation = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class ChatFormat:
    """A model's chat format, as `read_format` finds it; the defaults are the plain form of our own files.

    A completion is `opening`, thinking, `closing`, `answer_start`, answer, `answer_end`, `end`; the prompt may hold the
    opening already.
    """

    opening: str = "<think>\n"
    closing: str = "\n</think>\n\n"
    answer_start: str = ""  # what wraps the answer, as `<answer>` .. `</answer>` do
    answer_end: str = ""
    opened: bool = False  # the prompt ends in the opening, or in all of it but white space, which is `lead`
    lead: str = ""
    skipping: str = "<think>\n\n</think>\n\n"  # what a prompt is continued with so that the answer comes at once
    on: Mapping[str, Any] = field(default_factory=dict)  # arguments of the template that make the model think
    off: Mapping[str, Any] | None = None  # those that keep it from thinking; None where there are none
    off_word: str = ""  # what a system turn says for that, where only words do
    system: bool = True  # the template takes a system turn
    parts: bool = False  # the template reads content as parts alone
    end: str = ""  # the token that ends a turn, in training text too
    end_id: int | None = None
    stops: tuple[int, ...] = ()  # tokens that end a turn besides the tokenizer's own end
    mark_ids: tuple[int, ...] = ()  # special tokens in the marks, which decoded text must keep
    shown: bool = False  # the template or the settings show the marks; otherwise a warm-up has to teach them

    @property
    def open_mark(self) -> str:
        """The opening without the white space around it."""
        return self.opening.strip()

    @property
    def close_mark(self) -> str:
        """The closing without the white space around it."""
        return self.closing.strip()

    @property
    def direct_mark(self) -> str:
        """The mark of an answer without thinking, where it has one of its own (a channel)."""
        text = self.skipping.strip()
        return "" if self.open_mark in text or self.close_mark in text else text

    def turns(self, system: str | None, user: str, earlier: Sequence[Turn] = ()) -> Conversation:
        """The system turn, if any, the earlier turns and the user's turn, in the form that the template takes.

        Marks of thinking in an earlier answer are taken out: templates cut or refuse an answer that quotes one.
        """
        answers = [self._inert_answer(turn) for turn in earlier]
        if system is None or self.system:
            turns = conversation(system, user, answers)
        else:
            (first, *others) = conversation(None, user, answers)
            turns = [{**first, "content": f"{system}\n\n{first['content']}"}, *others]
        return [self._turn(turn["role"], turn["content"]) for turn in turns]

    def without_thinking(self, system: str | None) -> str | None:
        """The system turn of a question that is to be answered at once."""
        return " ".join(filter(None, (system, self.off_word))) or None

    def begin(self, thinking: str = "", closed: bool = False) -> str:
        """The text that a prompt is continued with so that the model goes on thinking, or answers if `closed`."""
        behind = self.closing + self.answer_start if closed else ""
        return (self.lead if self.opened else self.opening) + thinking + behind

    def compose(self, thinking: str, answer: str) -> str:
        """A completion as the model writes it behind its prompt, without the token that ends the turn."""
        return f"{self.begin(thinking, closed=True)}{answer}{self.answer_end}"

    def to_answer(self, prompt: str, quiet: bool) -> str:
        """Text that a rendered prompt is continued with so that the answer comes at once; none if it says so itself."""
        text = prompt.rstrip()
        if text.endswith(self.open_mark):
            return self.closing + self.answer_start
        if text.endswith(self.close_mark) or quiet or not self.shown:
            return ""
        return self.skipping

    def behind_thinking(self, text: str) -> str:
        """All of a text that follows the first thought, or the mark of a direct answer; else the whole text."""
        if self.close_mark in text:
            return self.unwrap(text.partition(self.close_mark)[2])
        direct = self.direct_mark
        return self.unwrap(text.lstrip().removeprefix(direct)) if direct else text

    def canonical(self, text: str) -> str:
        """The text with the headers of its channels in the form of the marks: models add a recipient or a format."""
        return _CHANNEL.sub(r"<|channel|>\1<|message|>", text) if "<|channel|>" in self.opening else text

    def unwrap(self, answer: str) -> str:
        """The answer without what wraps it."""
        answer = answer.strip().removeprefix(self.answer_start.strip())
        return answer.removesuffix(self.answer_end.strip()).strip()

    def answer_of(self, text: str) -> str:
        """Text that a user takes as the answer: all that follows the thinking, or all of it where no mark ends that."""
        body = _body(text, self)
        if self.close_mark in body:
            return self.unwrap(body.partition(self.close_mark)[2])
        if self.direct_mark and body.startswith(self.direct_mark):
            return self.unwrap(body.removeprefix(self.direct_mark))
        return text.replace(self.open_mark, " ").strip()

    def from_plain(self, text: str) -> str:
        """A completion in the plain form of our own files, with this format's marks in the place of the plain ones."""
        return text.replace(PLAIN.open_mark, self.open_mark).replace(PLAIN.close_mark, self.close_mark)

    def inert(self, text: str) -> str:
        """The text with every mark of the format taken out."""
        for mark in filter(None, (self.open_mark, self.close_mark, self.direct_mark)):
            text = text.replace(mark, " ")
        return text.strip()

    def to_json(self) -> dict[str, Any]:
        """Content for a manifest."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """The format that `to_json` wrote; raises TypeError for content of another shape."""
        fields: dict[str, Any] = dict(content)
        fields |= {name: tuple(fields[name]) for name in ("stops", "mark_ids") if name in fields}
        return cls(**fields)

    def _inert_answer(self, turn: Turn) -> Turn:
        return replace(turn, content=self.inert(turn.content)) if turn.role == "assistant" else turn

    def _turn(self, role: str, content: str) -> dict[str, Any]:
        return {"role": role, "content": [{"type": "text", "text": content}] if self.parts else content}


PLAIN = ChatFormat()


def conversation(system_prompt: str | None, text: str, earlier: Sequence[Turn] = ()) -> Conversation:
    """The system turn, if any, the earlier turns, and the user's turn."""
    system = [] if system_prompt is None else [{"role": "system", "content": system_prompt}]
    between = [{"role": turn.role, "content": turn.content} for turn in earlier]
    return [*system, *between, {"role": "user", "content": text}]


def parse_completion(text: str, truncated: bool, chat: ChatFormat = PLAIN) -> Completion:
    """Parse a completion and classify its form; each part is filled as far as it exists. Never raises."""
    body = _body(text, chat)
    head, _, tail = body.partition(chat.close_mark)
    thinking, answer = head.strip(), chat.unwrap(tail)
    trace = _BLANK_LINE.split(thinking, maxsplit=1)[0].strip()
    return Completion(_form(body, trace, answer, truncated, chat), trace, thinking, answer)


def _body(text: str, chat: ChatFormat) -> str:
    return text.lstrip().removeprefix(chat.open_mark)


def _form(body: str, trace: str, answer: str, truncated: bool, chat: ChatFormat) -> Form:
    if truncated:
        return Form.TRUNCATED
    if body.count(chat.close_mark) != 1 or chat.open_mark in body:
        return Form.NO_THINK_END
    if not trace:
        return Form.EMPTY_TRACE
    return Form.OK if answer else Form.EMPTY_ANSWER
