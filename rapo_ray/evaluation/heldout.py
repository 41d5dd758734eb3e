"""Held-out measurement of a stage: completions sampled and judged like the training samples."""

from collections.abc import Sequence

from rapo_ray.statistics import Interval, paired_bootstrap
from rapo_ray.types import Group, Sample, Status

Stage = dict[str, float | int | None]


def summarise_stage(groups_P: Sequence[Group]) -> Stage:
    """Means and shares over the completions whose verdict is scorable, with n of each; None where there are none."""
    samples = [(group.prompt, sample) for group in groups_P for sample in group.samples_G]
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
        "prompts": len(groups_P),
        "n": len(scored),
        "n_harmful": len(harmful),
        "n_benign": len(benign),
    }


def total_difference(after_P: Sequence[Group], before_P: Sequence[Group], seed: int) -> Interval:
    """Paired difference of the prompts' mean totals, over the prompts that both stages could score; resamples prompts.

    The samples of a prompt are not independent, so a prompt counts once however many samples it has.
    """
    before = {group.prompt.id: _group_total(group) for group in before_P}
    pairs = [(_group_total(group), before.get(group.prompt.id)) for group in after_P]
    return paired_bootstrap([new - old for new, old in pairs if new is not None and old is not None], seed)


def _group_total(group: Group) -> float | None:
    return _mean([_total(sample) for sample in group.samples_G if sample.verdict.scorable])


def _total(sample: Sample) -> float:
    verdict = sample.verdict
    assert verdict.risk is not None and verdict.general is not None
    return verdict.risk + verdict.general


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
