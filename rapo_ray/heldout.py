"""Held-out measurement of a stage: one completion a prompt, sampled and judged like the training samples."""

from collections.abc import Sequence

from rapo_ray.statistics import Interval, paired_bootstrap
from rapo_ray.types import Group, Sample, Status

Stage = dict[str, float | int | None]


def summarise_stage(groups_P: Sequence[Group]) -> Stage:
    """Means and shares over the prompts whose verdict is scorable, with n of each; None where a share has no rows."""
    samples = [(group.prompt, group.samples_G[0]) for group in groups_P]
    scored = [(prompt, sample) for prompt, sample in samples if sample.verdict.scorable]
    harmful = [sample for prompt, sample in scored if prompt.harmful]
    benign = [sample for prompt, sample in scored if not prompt.harmful]
    return {
        "total": _mean([_total(sample) for _, sample in scored]),
        "risk": _mean([sample.verdict.risk or 0.0 for _, sample in scored]),
        "general": _mean([sample.verdict.general or 0.0 for _, sample in scored]),
        "harmful_refused": _mean([float(sample.verdict.general == 1) for sample in harmful]),
        "benign_answered": _mean([float(sample.verdict.general == 1) for sample in benign]),
        "malformed": _mean([float(sample.verdict.status is Status.MALFORMED) for _, sample in scored]),
        "unscorable": len(samples) - len(scored),
        "n": len(scored),
        "n_harmful": len(harmful),
        "n_benign": len(benign),
    }


def total_difference(after_P: Sequence[Group], before_P: Sequence[Group], seed: int) -> Interval:
    """Paired difference of totals over the prompts that both stages could score."""
    before = {group.prompt.id: group.samples_G[0] for group in before_P}
    pairs = [(group.samples_G[0], before[group.prompt.id]) for group in after_P if group.prompt.id in before]
    return paired_bootstrap(
        [_total(new) - _total(old) for new, old in pairs if new.verdict.scorable and old.verdict.scorable], seed
    )


def _total(sample: Sample) -> float:
    verdict = sample.verdict
    assert verdict.risk is not None and verdict.general is not None
    return verdict.risk + verdict.general


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
