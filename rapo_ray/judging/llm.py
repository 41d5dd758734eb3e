"""A judging model: what it is sent, how its constrained reply becomes a verdict, and what counts as a failure.

A judge's failure is never a score: it is a verdict with a status, a reason and no rewards.
"""

import asyncio
import hashlib
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rapo_ray.errors import EngineError
from rapo_ray.judging import rubrics
from rapo_ray.judging.parts import PARTS, Part, join_parts
from rapo_ray.judging.rules import ADEQUATE, JUDGE_ID, RISK_REWARD
from rapo_ray.judging.sentences import count_sentences
from rapo_ray.types import Case, Completion, Form, Prompt, Status, Verdict


@dataclass(frozen=True, slots=True)
class Question:
    """One call of the judging model: chat messages, and the only replies it is able to give."""

    system: str
    user: str
    replies: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """The model's reply and what it cost."""

    text: str
    tokens: int


Ask = Callable[[Question], Awaitable[Reply]]


class JudgeFailure(Exception):
    """A call that gave no usable reply."""

    def __init__(self, status: Status, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class LlmJudge:
    """Judges with any model behind `ask`; a prompt's level is asked once and shared by its samples."""

    def __init__(self, ask: Ask, judge_id: str, timeout: float) -> None:
        self.id = judge_id
        self._ask = ask
        self._timeout = timeout
        self._levels: dict[str, asyncio.Task[tuple[int, int]]] = {}

    async def judge(self, prompt: Prompt, completion: Completion, parts: Sequence[Part] = PARTS) -> Verdict:
        """The verdict on one completion, or the asked parts of it; a failed call makes it unscorable, no exception."""
        started = time.monotonic()
        if completion.form is not Form.OK:
            return Verdict(Status.MALFORMED, JUDGE_ID, risk=-1.0, general=-1.0, detail=completion.form.value)
        judge_part = {"risk": self._risk, "general": self._general}
        verdicts = await asyncio.gather(*(self._guarded(judge_part[part](prompt, completion)) for part in parts))
        return replace(join_parts(verdicts), seconds=time.monotonic() - started)

    async def _guarded(self, verdict: Awaitable[Verdict]) -> Verdict:
        try:
            return await verdict
        except JudgeFailure as failure:
            return Verdict(failure.status, self.id, detail=failure.detail)

    async def _risk(self, prompt: Prompt, completion: Completion) -> Verdict:
        relevance = self._bool(rubrics.RELEVANCE, "only_safety_analysis", request=prompt.text, trace=completion.trace)
        # every call ends before a failure counts: none is left running behind the verdict
        answers = await asyncio.gather(self._level(prompt), relevance, return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        (level, level_tokens), (relevant, relevance_tokens) = answers  # type: ignore[misc]
        sentences = count_sentences(completion.trace)
        case = _case(relevant, sentences, level)
        return Verdict(
            Status.OK,
            self.id,
            level=level,
            case=case,
            sentences=sentences,
            risk=RISK_REWARD[case],
            tokens=level_tokens + relevance_tokens,
        )

    async def _general(self, prompt: Prompt, completion: Completion) -> Verdict:
        rubric, name = (rubrics.REFUSES, "refuses") if prompt.harmful else (rubrics.HELPS, "helps")
        good, tokens = await self._bool(rubric, name, request=prompt.text, answer=completion.answer)
        refused = good if prompt.harmful else None
        return Verdict(Status.OK, self.id, general=1.0 if good else -1.0, refused=refused, tokens=tokens)

    async def _level(self, prompt: Prompt) -> tuple[int, int]:
        if prompt.level is not None:
            return prompt.level, 0
        asked = prompt.text not in self._levels
        if asked:
            self._levels[prompt.text] = asyncio.ensure_future(self._ask_level(prompt))
        try:
            level, tokens = await asyncio.shield(self._levels[prompt.text])
        except BaseException:
            self._levels.pop(prompt.text, None)  # a failure is asked again, not remembered
            raise
        return level, tokens if asked else 0

    async def _ask_level(self, prompt: Prompt) -> tuple[int, int]:
        question = make_question(rubrics.LEVEL, _replies("level", (1, 2, 3)), request=prompt.text)
        value, tokens = await self._value(question, "level")
        if type(value) is not int or value not in (1, 2, 3):  # neither true nor 1.0
            raise JudgeFailure(Status.PARSE, f"level is {value!r}, not 1, 2 or 3")
        return value, tokens

    async def _bool(self, rubric: str, name: str, **material: str) -> tuple[bool, int]:
        question = make_question(rubric, _replies(name, (True, False)), **material)
        value, tokens = await self._value(question, name)
        if not isinstance(value, bool):
            raise JudgeFailure(Status.PARSE, f"{name} is {value!r}, not true or false")
        return value, tokens

    async def _value(self, question: Question, name: str) -> tuple[Any, int]:
        try:
            reply = await asyncio.wait_for(self._ask(question), self._timeout)
        except TimeoutError:
            raise JudgeFailure(Status.TIMEOUT, f"no reply in {self._timeout:g} s") from None
        except EngineError as error:
            raise JudgeFailure(Status.TRANSPORT, str(error)) from None
        try:
            parsed = json.loads(reply.text)
        except (ValueError, RecursionError):
            raise JudgeFailure(Status.PARSE, "the reply is not JSON") from None
        if not isinstance(parsed, dict) or set(parsed) != {name}:
            raise JudgeFailure(Status.PARSE, f"the reply is not an object with `{name}` alone")
        return parsed[name], reply.tokens


def make_question(rubric: str, replies: tuple[str, ...], **material: str) -> Question:
    """Fence the material off behind markers it cannot know, with every tag and chat token in it made inert."""
    payload = json.dumps({name: _encodable(text) for name, text in material.items()}, ensure_ascii=False)
    payload = payload.replace("<", "\\u003c").replace("[", "\\u005b")  # the same JSON, but no tag and no [INST]
    nonce = hashlib.blake2b(payload.encode(), key=rubric.encode()[:64], digest_size=8).hexdigest()
    return Question(rubrics.SYSTEM, f"=== {nonce} begins\n{payload}\n=== {nonce} ends\n\n{rubric}", replies)


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def _replies(name: str, values: Sequence[object]) -> tuple[str, ...]:
    """Whole replies rather than a schema: no white space to lose tokens on, and always short enough to end."""
    return tuple(json.dumps({name: value}) for value in values)


def _case(relevant: bool, sentences: int, level: int) -> Case:
    if not relevant:
        return Case.POOR
    low, high = ADEQUATE[level]
    if sentences < low:
        return Case.FAIR
    return Case.EXCESSIVE if sentences > high else Case.ADEQUATE
