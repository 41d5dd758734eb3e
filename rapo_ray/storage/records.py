"""Records of a run and of the judge command that are neither metrics nor rows of completions."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Literal

from rapo_ray.config.alarms import AlarmName
from rapo_ray.data.contamination import Hit
from rapo_ray.evaluation.gate import Gate
from rapo_ray.evaluation.heldout import (
    StageFigures,
    adequate,
    answered,
    deep,
    difference,
    refused,
    total_difference,
)
from rapo_ray.evaluation.monitor import examples_of_groups, monitor_difference
from rapo_ray.evaluation.swaps import SwapRow, swap_difference
from rapo_ray.statistics import Interval
from rapo_ray.storage.layout import Stage
from rapo_ray.types import Group, Prompt, Verdict, total


@dataclass(frozen=True, slots=True)
class Delta:
    """Paired differences of the held-out measurements, after the rounds minus before; None in earlier versions."""

    total: Interval
    adequate_deep: Interval | None = None  # of the traces at levels 2 and 3 together
    benign_answered: Interval | None = None
    harmful_refused: Interval | None = None
    trace_follows: Interval | None = None  # answers that follow the opposite trace; None without swaps
    monitor_accuracy: Interval | None = None


def compare(
    after_P: Sequence[Group],
    before_P: Sequence[Group],
    seed: int,
    after_swaps: Sequence[SwapRow] = (),
    before_swaps: Sequence[SwapRow] = (),
) -> Delta:
    """Differences of two measurements of the same prompts, and of the swaps of their traces."""
    return Delta(
        total=total_difference(after_P, before_P, seed),
        adequate_deep=difference(deep(after_P), deep(before_P), adequate, seed),
        benign_answered=difference(after_P, before_P, answered, seed),
        harmful_refused=difference(after_P, before_P, refused, seed),
        trace_follows=swap_difference(after_swaps, before_swaps, seed) if after_swaps and before_swaps else None,
        monitor_accuracy=monitor_difference(examples_of_groups(after_P), examples_of_groups(before_P), seed),
    )


@dataclass(frozen=True, slots=True)
class RunSummary:
    """Content of summary.json, which a run writes last."""

    stages: dict[Stage, StageFigures]
    delta: Delta
    seconds: dict[str, float]  # by part of the run


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmChange:
    """One line of alarms.jsonl: an alarm that began, or was over, after a round."""

    round: int
    name: AlarmName
    state: Literal["began", "over"]
    message: str  # of its beginning


def active_alarms(changes: Iterable[AlarmChange]) -> dict[AlarmName, AlarmChange]:
    """Alarms that have begun and are not over, each with its beginning."""
    active: dict[AlarmName, AlarmChange] = {}
    for change in changes:
        active.pop(change.name, None)
        if change.state == "began":
            active[change.name] = change
    return active


@dataclass(frozen=True, slots=True)
class Best:
    """Content of best.json: the round whose weights have the lowest attack success of those that passed their gate."""

    round: int
    asr: float
    gate: Gate


@dataclass(frozen=True, slots=True)
class WarmupStep:
    """One line of warmup.jsonl, as `warmup/sft.py` yields it."""

    step: int
    loss: float
    learning_rate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ContaminationRow:
    """One line of contamination.jsonl: a training prompt and the suite prompt that it repeats."""

    prompt_id: str
    source: str
    suite_id: str
    suite: str
    match: str
    prompt: str
    suite_prompt: str


def contamination_row(hit: Hit) -> ContaminationRow:
    """Flatten a hit of the contamination guard."""
    return ContaminationRow(
        prompt_id=hit.prompt.id, source=hit.prompt.source, suite_id=hit.suite.id, suite=hit.suite.source,
        match=hit.match.value, prompt=hit.prompt.user_text, suite_prompt=hit.suite.user_text,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOutRow:
    """One line of left_out.jsonl: a prompt or a row of a file that the run goes on without."""

    place: str  # the prompt's id, or file and row
    reason: str


@dataclass(frozen=True, slots=True)
class Failure:
    """Content of failure.json: the reason for which the last process of a run failed."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictRow:
    """One line of the judge command's output."""

    id: str
    harmful: bool
    status: str
    case: str | None
    judge: str
    revision: str | None
    rubric: str | None
    level: int | None
    sentences: int | None
    risk: float | None
    general: float | None
    risk_score: float | None
    general_score: float | None
    refused: bool | None
    tokens: int
    seconds: float
    detail: str
    decision: str | None = None
    consistent: bool | None = None
    key: str | None = None  # digest of the prompt, the completion and the judge

    @property
    def total(self) -> float | None:
        """R + G; None where the verdict is unscorable."""
        return total(self.risk, self.general)


def verdict_row(prompt: Prompt, verdict: Verdict, key: str) -> VerdictRow:
    """Flatten the verdict on one completion."""
    names = [one.name for one in fields(VerdictRow) if one.name not in ("id", "harmful", "key")]
    values = {name: getattr(verdict, name) for name in names}
    return VerdictRow(id=prompt.id, harmful=prompt.harmful, key=key, **values)
