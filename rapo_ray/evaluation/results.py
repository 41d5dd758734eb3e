"""Figures, paired differences and gate of an evaluation, computed from its rows (pure)."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from rapo_ray.config.evaluation import GatesConfig
from rapo_ray.evaluation.effort_figures import EffortFigures, effort_figures, tries_of
from rapo_ray.evaluation.gate import Gate, judge_gate
from rapo_ray.evaluation.metrics import Difference, Metric, differences, figures, overall
from rapo_ray.evaluation.monitor import examples_of_rows, monitor_figures
from rapo_ray.evaluation.rows import EvalRow
from rapo_ray.evaluation.swaps import SwapRow, swap_figures
from rapo_ray.evaluation.tries import Effort
from rapo_ray.types import EndpointReply

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """One model's rows; `expected` is the number that there should be."""

    name: str
    id: str
    revision: str | None
    rows: list[EvalRow]
    expected: int
    dropped: dict[str, int] = field(default_factory=dict)  # prompts left out, by reason
    swaps: list[SwapRow] = field(default_factory=list)

    @property
    def untried(self) -> list[EvalRow]:
        """The rows that are no tries of an attacker."""
        return [row for row in self.rows if row.attacker is None]

    @property
    def partial(self) -> bool:
        """True where rows are missing, or the judge or the endpoint failed on some."""
        return len(self.rows) < self.expected or any(row.unscorable or row.failed for row in self.rows)


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Id and revision of an evaluated model."""

    id: str
    revision: str | None


@dataclass(frozen=True, slots=True)
class JudgeIdentity:
    """Judge of the answers."""

    id: str
    revision: str | None
    guard: str | None
    reply: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """Settings that the completions were sampled with, and the part of them that counts as the answer."""

    temperature: float | None  # None: the endpoint's own
    max_new_tokens: int
    dtype: str
    system_prompt: str | None
    samples_per_prompt: int
    attacks: list[str]
    suites: str
    seed: int
    answer: str


@dataclass(frozen=True, slots=True)
class Counts:
    """Rows of all models, and prompts left out by reason."""

    expected: Annotated[int, Field(alias="asked")]
    finished: int
    unscorable: int
    dropped: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """Content of results.json, models by name and the evaluated one first, and of gate.json beside it."""

    version: int = VERSION
    partial: bool  # rows are missing, or a judge failed on some
    models: Annotated[dict[str, ModelIdentity], Field(min_length=1)]
    judge: JudgeIdentity
    decoding: Decoding
    counts: Counts
    metrics: list[Metric]
    differences: list[Difference]
    replies: dict[str, int] = field(default_factory=dict)  # prompts by what the endpoints did; empty without one
    effort: EffortFigures | None = None  # None where no attacker tried
    gate: Annotated[Gate | None, Field(exclude=True)] = None

    @property
    def model(self) -> str:
        """Name of the evaluated model."""
        return next(iter(self.models))

    @property
    def failed(self) -> int:
        """Number of prompts that got no answer from an endpoint."""
        return self.replies.get(FAILED, 0)

    def overall(self, model: str, name: str) -> Metric | None:
        """Find a model's figure over all of its rows."""
        return overall(self.metrics, model, name)


SWAPPED: dict[str, str] = {"trace_follows": "opposite", "trace_cut": "cut", "trace_other": "other"}  # metric: swap
MONITOR = "monitor_accuracy"
FAILED: EndpointReply = "failed"


def _of_traces(model: Evaluated, seed: int) -> list[Metric]:
    """Causality and monitorability of the traces, as overall figures."""
    shares = swap_figures(model.swaps)
    monitor = monitor_figures(examples_of_rows(model.untried), seed)
    metrics = [
        Metric(model=model.name, name=name, value=shares[kind].follows, ci95=shares[kind].ci95, n=shares[kind].n)
        for name, kind in SWAPPED.items()
        if kind in shares
    ]
    if monitor is not None:
        metrics.append(
            Metric(model=model.name, name=MONITOR, value=monitor.accuracy, ci95=monitor.ci95, n=monitor.prompts)
        )
    return metrics


def traces_of(results: Results) -> tuple[dict[str, float | None], float | None]:
    """Shares by kind of swap, and the monitor's accuracy, of the evaluated model."""
    metrics = {name: results.overall(results.model, name) for name in (*SWAPPED, MONITOR)}
    shares = {kind: metric.value for name, kind in SWAPPED.items() if (metric := metrics[name])}
    monitor = metrics[MONITOR]
    return shares, monitor.value if monitor else None


def summarise(
    models: Sequence[Evaluated],
    decoding: Decoding,
    judge: JudgeIdentity,
    gates: GatesConfig,
    seed: int,
    effort: Effort | None = None,
) -> Results:
    """Figures of each model, differences of the first to each other, and the first one's gate where bars are set.

    Tries of an attacker have figures of their own, and are in no other.
    """
    first = models[0]
    rows = [row for one in models for row in one.rows]
    metrics = [metric for one in models for metric in (*figures(one.name, one.untried), *_of_traces(one, seed))]
    steps = [
        step for other in models[1:] for step in differences(first.name, first.untried, other.name, other.untried, seed)
    ]
    partial = any(one.partial for one in models)
    tried = [(one.name, tries_of(one.rows)) for one in models]
    against_effort = effort_figures(effort, tried, seed, list(gates.asr_at)) if effort else None
    return Results(
        partial=partial,
        models={one.name: ModelIdentity(one.id, one.revision) for one in models},
        judge=judge,
        decoding=decoding,
        counts=Counts(
            sum(one.expected for one in models),
            len(rows),
            sum(row.unscorable for row in rows),
            dict(sum((Counter(one.dropped) for one in models), Counter())),
        ),
        metrics=metrics,
        differences=steps,
        replies=dict(Counter(row.reply for row in rows if row.reply is not None)),
        effort=against_effort,
        gate=judge_gate(gates, first.name, metrics, steps, partial, against_effort) if gates.bars() else None,
    )
