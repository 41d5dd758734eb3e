"""Held-out measurement of a stage: completions sampled and judged like the training samples."""

from collections.abc import Sequence
from dataclasses import dataclass

from rapo_ray.statistics import Interval, mean, paired_bootstrap
from rapo_ray.types import Group, Status


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
    consistent: float | None = None  # of the traces whose decision was judged


def summarise_stage(groups_P: Sequence[Group]) -> StageFigures:
    """Summarise the completions of one stage."""
    samples = [(group.prompt, sample) for group in groups_P for sample in group.samples_G]
    scored = [(prompt, sample.verdict) for prompt, sample in samples if sample.verdict.scorable]
    harmful = [verdict for prompt, verdict in scored if prompt.harmful]
    benign = [verdict for prompt, verdict in scored if not prompt.harmful]
    return StageFigures(
        total=mean(verdict.total for _, verdict in scored),
        risk=mean(verdict.risk for _, verdict in scored),
        general=mean(verdict.general for _, verdict in scored),
        harmful_refused=mean(float(verdict.general == 1) for verdict in harmful),
        benign_answered=mean(float(verdict.general == 1) for verdict in benign),
        malformed=mean(float(verdict.status is Status.MALFORMED) for _, verdict in scored),
        unscorable=len(samples) - len(scored), prompts=len(groups_P),
        n=len(scored), n_harmful=len(harmful), n_benign=len(benign),
        consistent=mean(verdict.consistent for _, verdict in scored),
    )  # fmt: skip


def total_difference(after_P: Sequence[Group], before_P: Sequence[Group], seed: int) -> Interval:
    """Paired difference of the prompts' mean totals, over the prompts that both stages could score; resamples prompts.

    The samples of a prompt are not independent, so a prompt counts once however many samples it has.
    """
    before = {group.prompt.id: _group_total(group) for group in before_P}
    pairs = [(_group_total(group), before.get(group.prompt.id)) for group in after_P]
    return paired_bootstrap([new - old for new, old in pairs if new is not None and old is not None], seed)


def _group_total(group: Group) -> float | None:
    return mean(sample.verdict.total for sample in group.samples_G)
