"""The port between a judge and its model: one question, one reply, one deadline."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from rapo_ray.errors import EngineError
from rapo_ray.judging.questions import JudgeFailure, Question, Reply, Style
from rapo_ray.types import Status

Ask = Callable[[Question], Awaitable[Reply]]
Mode = Literal["split", "paper"]


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
