"""Held-out measurement of a stage: completions sampled and judged like the training samples."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

from rapo_ray.evaluation.monitor import MonitorFigures, examples_of_groups, monitor_figures
from rapo_ray.evaluation.swaps import SwapFigures, SwapRow, swap_figures
from rapo_ray.statistics import Interval, mean, paired_bootstrap
from rapo_ray.types import Case, Group, Prompt, Status, Verdict

Value = Callable[[Prompt, Verdict], float | None]  # of a scorable verdict; None where it does not count
NO_LEVEL = "none"
DEEP = ("2", "3")  # levels whose prompts demand more than a short trace


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelFigures:
    """Shares and the median trace length over the completions to prompts of one level; None where there are none."""

    adequate: float | None
    sentences: float | None
    benign_answered: float | None
    harmful_refused: float | None
    prompts: int
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StageFigures:
    """Means and shares over the completions whose verdict is scorable, with n of each; None where there are none."""

    total: float | None
    risk: float | None
    general: float | None
    harmful_refused: float | None
    benign_answered: float | None
    malformed: float | None
    unscorable: int
    prompts: int
    n: int
    n_harmful: int
    n_benign: int
    adequate: float | None = None  # of the traces; None in summaries of earlier versions, as `levels` are none
    consistent: float | None = None  # of the traces whose decision was judged
    levels: dict[str, LevelFigures] = field(default_factory=dict)
    swaps: SwapFigures = field(default_factory=dict)
    monitor: MonitorFigures | None = None  # None where all answers are alike


def total(_prompt: Prompt, verdict: Verdict) -> float | None:
    """R + G."""
    return verdict.total


def refused(prompt: Prompt, verdict: Verdict) -> float | None:
    """1 where a harmful prompt was refused."""
    return float(verdict.general == 1) if prompt.harmful else None


def answered(prompt: Prompt, verdict: Verdict) -> float | None:
    """1 where a benign prompt was answered."""
    return None if prompt.harmful else float(verdict.general == 1)


def adequate(_prompt: Prompt, verdict: Verdict) -> float | None:
    """1 where the trace is as deep as the level demands; a malformed completion has no such trace."""
    return float(verdict.case is Case.ADEQUATE)


def consistent(_prompt: Prompt, verdict: Verdict) -> float | None:
    """1 where the answer follows the trace's decision, and the trace does not contradict itself."""
    return None if verdict.consistent is None else float(verdict.consistent)


def level_of(group: Group) -> str:
    """Level of a prompt by its source, else the one that the judge gave most often, else `none`."""
    if group.prompt.level is not None:
        return str(group.prompt.level)
    judged = Counter(sample.verdict.level for sample in group.samples_G if sample.verdict.level is not None)
    return str(judged.most_common(1)[0][0]) if judged else NO_LEVEL


def deep(groups_P: Sequence[Group]) -> list[Group]:
    """The prompts of levels 2 and 3."""
    return [group for group in groups_P if level_of(group) in DEEP]


def values_of(group: Group, value: Value) -> list[float]:
    """Values of a prompt's samples that count."""
    values = (value(group.prompt, sample.verdict) for sample in group.samples_G if sample.verdict.scorable)
    return [one for one in values if one is not None]


def by_prompt(groups_P: Sequence[Group], value: Value) -> dict[str, float]:
    """Mean over the samples that count, by prompt: the samples of a prompt are not independent."""
    means = {group.prompt.id: mean(values_of(group, value)) for group in groups_P}
    return {name: one for name, one in means.items() if one is not None}


def summarise_stage(groups_P: Sequence[Group], swaps: Sequence[SwapRow] = (), seed: int = 0) -> StageFigures:
    """Summarise the completions of one stage, and the swaps of their traces; the seed resamples prompts."""
    samples = [(group.prompt, sample) for group in groups_P for sample in group.samples_G]
    scored = [(prompt, sample.verdict) for prompt, sample in samples if sample.verdict.scorable]
    by_level: dict[str, list[Group]] = {}
    for group in groups_P:
        by_level.setdefault(level_of(group), []).append(group)
    return StageFigures(
        total=mean(verdict.total for _, verdict in scored),
        risk=mean(verdict.risk for _, verdict in scored),
        general=mean(verdict.general for _, verdict in scored),
        harmful_refused=_mean(groups_P, refused),
        benign_answered=_mean(groups_P, answered),
        malformed=mean(float(verdict.status is Status.MALFORMED) for _, verdict in scored),
        unscorable=len(samples) - len(scored), prompts=len(groups_P), n=len(scored),
        n_harmful=sum(prompt.harmful for prompt, _ in scored),
        n_benign=sum(not prompt.harmful for prompt, _ in scored),
        adequate=_mean(groups_P, adequate),
        consistent=_mean(groups_P, consistent),
        levels={level: _level(by_level[level]) for level in sorted(by_level)},
        swaps=swap_figures(swaps),
        monitor=monitor_figures(examples_of_groups(groups_P), seed),
    )  # fmt: skip


def _level(groups_P: Sequence[Group]) -> LevelFigures:
    verdicts = [sample.verdict for group in groups_P for sample in group.samples_G]
    sentences = [verdict.sentences for verdict in verdicts if verdict.sentences is not None]
    return LevelFigures(
        adequate=_mean(groups_P, adequate),
        sentences=float(median(sentences)) if sentences else None,
        benign_answered=_mean(groups_P, answered),
        harmful_refused=_mean(groups_P, refused),
        prompts=len(groups_P),
        n=sum(verdict.scorable for verdict in verdicts),
    )


def _mean(groups_P: Sequence[Group], value: Value) -> float | None:
    return mean(one for group in groups_P for one in values_of(group, value))


def difference(after_P: Sequence[Group], before_P: Sequence[Group], value: Value, seed: int) -> Interval:
    """Paired difference of the prompts' means, over the prompts that count in both stages; resamples prompts.

    The samples of a prompt are not independent, so a prompt counts once however many samples it has.
    """
    after, before = by_prompt(after_P, value), by_prompt(before_P, value)
    return paired_bootstrap([after[name] - before[name] for name in after if name in before], seed)


def total_difference(after_P: Sequence[Group], before_P: Sequence[Group], seed: int) -> Interval:
    """Paired difference of the prompts' mean totals."""
    return difference(after_P, before_P, total, seed)
