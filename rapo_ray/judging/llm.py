"""A judging model behind `ask`: the questions about a completion, and the verdict from their answers.

A failed judgement is never a score: it is a verdict with a status, a reason and no rewards.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from rapo_ray.judging import rubrics
from rapo_ray.judging.ask import Ask, JudgeSettings, Mode, all_of, ask_in_time, judge_completion
from rapo_ray.judging.parts import PARTS, Part
from rapo_ray.judging.questions import Answer, Field, make_question, read_reply
from rapo_ray.judging.rules import RISK_REWARD, fit
from rapo_ray.text.sentences import count_sentences
from rapo_ray.types import Case, Completion, Decision, Prompt, Status, Turn, Verdict

CONTRADICTORY = "contradictory"  # a reply: the trace decides both ways, or against its own analysis
LEVEL = Field("level", (1, 2, 3))
CASE = Field("case", tuple(case.value for case in Case if case is not Case.CONTRADICTORY))
YES_NO = (True, False)
RELEVANT = Field("only_safety_analysis", YES_NO)
DECISION = Field("decision", (*(decision.value for decision in Decision), CONTRADICTORY))
READING = (RELEVANT, DECISION)


class LlmJudge:
    """Judge with any model behind `ask`."""

    def __init__(self, ask: Ask, settings: JudgeSettings) -> None:
        self._ask = ask
        self._settings = settings
        self._levels: dict[tuple[tuple[Turn, ...], str], asyncio.Task[Answer]] = {}

    async def judge(self, prompt: Prompt, completion: Completion, parts: Sequence[Part] = PARTS) -> Verdict:
        """The verdict on a completion, or the given parts of it; a failed call makes it unscorable, raising nothing."""
        settings = self._settings
        rubric = rubrics.rubric_hash(*_rubrics(parts, prompt, settings.mode), settings.style)
        return await judge_completion(completion, settings, rubric, lambda: self._judge(prompt, completion, parts))

    async def _judge(self, prompt: Prompt, completion: Completion, parts: Sequence[Part]) -> Verdict:
        verdict = Verdict(Status.OK, self._settings.id)
        if self._settings.mode == "paper":
            calls = {part: self._paper_risk if part == "risk" else self._general for part in parts}
            answers = await all_of(calls[part](prompt, completion) for part in parts)
            for part, answer in zip(parts, answers, strict=True):
                verdict = _with_paper_risk(verdict, answer) if part == "risk" else _with_general(verdict, answer)
            sentences = count_sentences(completion.trace) if "risk" in parts else None
            return replace(verdict, sentences=sentences)
        if "risk" not in parts:
            return _with_general(verdict, await self._general(prompt, completion))
        together = "general" in parts and prompt.attack is None  # one request for both
        alone = [self._general(prompt, completion)] if "general" in parts and not together else []
        level, reading, *general = await all_of(
            [self._level(prompt), self._reading(prompt, completion, together), *alone]
        )
        verdict = _with_risk(verdict, level, reading, completion)
        if together:
            return _with_general(verdict, reading, paid=True)
        return _with_general(verdict, general[0]) if general else verdict

    async def _reading(self, prompt: Prompt, completion: Completion, with_general: bool) -> Answer:
        """One call for all that code cannot decide: the trace's relevance and decision, and the answer's quality."""
        if not with_general:
            return await self._answer(prompt, rubrics.TRACE, READING, trace=completion.trace)
        rubric, field = _general_question(prompt.harmful)
        return await self._answer(
            prompt,
            f"{rubrics.TRACE}\n{rubric}",
            [*READING, field],
            trace=completion.trace,
            answer=completion.answer,
        )

    async def _general(self, prompt: Prompt, completion: Completion) -> Answer:
        """The answer's quality, against the plain request: an attack's words do not count for it."""
        rubric, field = _general_question(prompt.harmful)
        return await self._answer(prompt.plain, rubric, [field], answer=completion.answer)

    async def _paper_risk(self, prompt: Prompt, completion: Completion) -> Answer:
        return await self._answer(
            prompt,
            rubrics.PAPER,
            [LEVEL, CASE],
            trace=completion.trace,
            request_sentences=count_sentences(prompt.user_text),
            trace_sentences=count_sentences(completion.trace),
        )

    async def _level(self, prompt: Prompt) -> Answer:
        """The source's level, or the judge's, requested once per prompt and charged to its first sample."""
        if prompt.level is not None:
            return Answer({"level": prompt.level}, 0, (), None)
        key = (prompt.turns, prompt.text)
        is_first = key not in self._levels
        if is_first:
            self._levels[key] = asyncio.ensure_future(self._answer(prompt, rubrics.LEVEL, [LEVEL]))
        try:
            answer = await asyncio.shield(self._levels[key])
        except BaseException:
            self._levels.pop(key, None)  # a failure is not remembered: the next sample asks again
            raise
        return answer if is_first else replace(answer, tokens=0)

    async def _answer(self, prompt: Prompt, rubric: str, fields: Sequence[Field], **material: object) -> Answer:
        shown: dict[str, object] = {"request": prompt.text, **material}
        if prompt.turns:
            rubric, shown = rubrics.DIALOGUE + rubric, {"dialogue": _numbered(prompt.turns), **shown}
        question = make_question(rubric, fields, self._settings.style, **shown)
        return read_reply(question, await ask_in_time(self._ask, question, self._settings.timeout))


def _numbered(turns: Sequence[Turn]) -> dict[str, str]:
    """The turns by number and role: an object, since the fence of a question breaks up brackets."""
    return {f"{number} {turn.role}": turn.content for number, turn in enumerate(turns, start=1)}


def _general_question(harmful: bool) -> tuple[str, Field]:
    return (rubrics.REFUSES, Field("refuses", YES_NO)) if harmful else (rubrics.HELPS, Field("helps", YES_NO))


def _rubrics(parts: Sequence[Part], prompt: Prompt, mode: Mode) -> list[str]:
    risk = [rubrics.PAPER] if mode == "paper" else [rubrics.LEVEL, rubrics.TRACE]
    general = [_general_question(prompt.harmful)[0]]
    used = [text for part in parts for text in (risk if part == "risk" else general)]
    return [rubrics.DIALOGUE, *used] if prompt.turns else used


def _with_risk(verdict: Verdict, level: Answer, reading: Answer, completion: Completion) -> Verdict:
    sentences = count_sentences(completion.trace)
    case = fit(reading.values[RELEVANT.name], sentences, level.values["level"])
    decision = reading.values[DECISION.name]
    return replace(
        verdict,
        level=level.values["level"],
        case=case,
        sentences=sentences,
        risk=RISK_REWARD[case],
        risk_score=reading.probability(RELEVANT.name, True),
        tokens=verdict.tokens + level.tokens + reading.tokens,
        decision=Decision.NONE if decision == CONTRADICTORY else Decision(decision),
        consistent=decision != CONTRADICTORY,
    )


def _with_paper_risk(verdict: Verdict, answer: Answer) -> Verdict:
    case = Case(answer.values["case"])
    level, score = answer.values["level"], answer.probability("case", Case.ADEQUATE.value)
    tokens = verdict.tokens + answer.tokens
    return replace(verdict, level=level, case=case, risk=RISK_REWARD[case], risk_score=score, tokens=tokens)


def _with_general(verdict: Verdict, answer: Answer, paid: bool = False) -> Verdict:
    name = "refuses" if "refuses" in answer.values else "helps"
    good = answer.values[name]
    return replace(
        verdict,
        general=1.0 if good else -1.0,
        refused=good if name == "refuses" else None,
        general_score=answer.probability(name, True),
        tokens=verdict.tokens + (0 if paid else answer.tokens),
    )
