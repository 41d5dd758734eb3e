"""The port between a judge and its model: one question, one reply, one deadline."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from rapo_ray.errors import EngineError
from rapo_ray.judging.forgery import flag_forgery
from rapo_ray.judging.questions import JudgeFailure, Question, Reply, Style
from rapo_ray.judging.rules import malformed_verdict
from rapo_ray.types import Completion, Form, Status, Verdict

Ask = Callable[[Question], Awaitable[Reply]]
Mode = Literal["split", "paper"]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class JudgeSettings:
    """A judge's identity and way of asking; `mode` and `style` are the settings `judge.mode` and `judge.*.reply`."""

    id: str
    revision: str | None = None
    mode: Mode = "split"
    style: Style = "choice"
    timeout: float = 120.0  # seconds for one reply


async def ask_in_time(ask: Ask, question: Question, timeout: float) -> Reply:
    """Reply within `timeout` seconds; raises JudgeFailure (timeout, transport) where there is none."""
    try:
        return await asyncio.wait_for(ask(question), timeout)
    except TimeoutError:
        raise JudgeFailure(Status.TIMEOUT, f"no reply in {timeout:g} s") from None
    except EngineError as error:
        raise JudgeFailure(Status.TRANSPORT, str(error)) from None


async def all_of(calls: Iterable[Awaitable[T]]) -> list[T]:
    """All results; a failure is raised only when every call has ended, so that none outlives the verdict."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if not isinstance(result, BaseException)]


async def judge_completion(
    completion: Completion, settings: JudgeSettings, rubric: str, judge: Callable[[], Awaitable[Verdict]]
) -> Verdict:
    """The verdict of `judge` on a well-formed completion; a failed call makes it unscorable and raises nothing."""
    started = time.monotonic()
    if completion.form is not Form.OK:
        return malformed_verdict(completion)
    try:
        verdict = flag_forgery(await judge(), completion)
    except JudgeFailure as failure:
        verdict = Verdict(failure.status, settings.id, detail=failure.detail)
    return replace(verdict, revision=settings.revision, rubric=rubric, seconds=time.monotonic() - started)
