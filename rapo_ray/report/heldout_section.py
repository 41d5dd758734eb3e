"""Held-out figures of every stage, with intervals over prompts."""

from collections.abc import Callable, Mapping, Sequence

from rapo_ray.report.parts import NONE, Cell, Notice, Part, Section, Table, cells, difference, figure
from rapo_ray.report.safety_charts import Point, Share
from rapo_ray.statistics import Interval, mean, paired_bootstrap, wilson_bounds, wilson_interval
from rapo_ray.storage.layout import Stage
from rapo_ray.storage.reader import Evidence
from rapo_ray.types import Group, Prompt, Sample, Status

Value = Callable[[Prompt, Sample], float | None]  # of a scored sample; None where it does not count


def _good_on(harmful: bool) -> Value:
    return lambda prompt, sample: float(sample.verdict.general == 1) if prompt.harmful is harmful else None


def _consistent(prompt: Prompt, sample: Sample) -> float | None:
    consistent = sample.verdict.consistent
    return None if consistent is None else float(consistent)


SHARES: dict[str, tuple[str, Value]] = {
    "harmful_refused": ("harmful prompts refused", _good_on(True)),
    "benign_answered": ("benign prompts answered", _good_on(False)),
    "consistent": ("consistent traces", _consistent),
    "malformed": ("malformed completions", lambda prompt, sample: float(sample.verdict.status is Status.MALFORMED)),
}
MEANS: dict[str, tuple[str, Value]] = {
    "total": ("R + G", lambda prompt, sample: sample.verdict.total),
    "risk": ("R, of the trace", lambda prompt, sample: sample.verdict.risk),
    "general": ("G, of the answer", lambda prompt, sample: sample.verdict.general),
}


def by_prompt(groups_P: Sequence[Group], value: Value) -> dict[str, float]:
    """Mean over the samples that count, by prompt: the samples of a prompt are not independent."""
    means = {}
    for group in groups_P:
        average = mean(value(group.prompt, sample) for sample in group.samples_G if sample.verdict.scorable)
        if average is not None:
            means[group.prompt.id] = average
    return means


def share(values: Sequence[float]) -> Interval:
    """Mean of the prompts' shares with its Wilson interval, each prompt one trial however many samples it has."""
    return wilson_interval(sum(values), len(values))


def _difference(after: Mapping[str, float], before: Mapping[str, float], seed: int) -> Cell:
    """Paired difference over the prompts that both stages have."""
    steps = [value - before[name] for name, value in after.items() if name in before]
    interval = paired_bootstrap(steps, seed)
    return difference(interval.mean, interval.ci95, len(steps))


def section(evidence: Evidence) -> Section:
    """Table of the stages."""
    return Section(
        "heldout",
        "Held-out prompts",
        "The same prompts, sampled and judged as in the rounds, before and after training.",
        "No held-out measurement in this folder.",
        _parts(evidence) if evidence.heldout else (),
    )


def _parts(evidence: Evidence) -> list[Part]:
    heldout = evidence.heldout
    seed = evidence.config.seed if evidence.config else 0
    compared = {Stage.SFT, Stage.RAPO} <= heldout.keys()
    rows = [cells("completions scored", *(_scored(groups_P) for groups_P in heldout.values()), *([NONE] * compared))]
    for name, (label, value) in {**MEANS, **SHARES}.items():
        by_stage = {stage: by_prompt(groups_P, value) for stage, groups_P in heldout.items()}
        if not any(by_stage.values()):
            continue  # recorded before there was such a figure, or by a judge that does not know it
        row = [Cell(label, name)]
        for means in by_stage.values():
            values = list(means.values())
            interval = share(values) if name in SHARES else paired_bootstrap(values, seed)
            row.append(figure(interval.mean, interval.ci95, len(values), ".3f" if name in SHARES else "+.3f"))
        if compared:
            row.append(_difference(by_stage[Stage.RAPO], by_stage[Stage.SFT], seed))
        rows.append(row)
    columns = ["figure", *heldout, *(["rapo - sft"] * compared)]
    note = (
        "95 % intervals over prompts: Wilson's for shares, bootstrap for means and for the paired difference. n is the "
        "number of prompts; a prompt counts once, with the mean of its samples. A difference in bold excludes zero."
    )
    return [Table("Held-out figures by stage", columns, rows), Notice(note)]


def _scored(groups_P: Sequence[Group]) -> Cell:
    samples = [sample for group in groups_P for sample in group.samples_G]
    failed = sum(not sample.verdict.scorable for sample in samples)
    note = f"of {len(samples)}, {len(groups_P)} prompts"
    return Cell(str(len(samples) - failed), note, "unsure" if failed else "")


def points(heldout: Mapping[Stage, Sequence[Group]]) -> list[Point]:
    """Harmful prompts not refused and benign ones not answered, before and after the rounds."""
    measured = []
    for stage in (Stage.SFT, Stage.RAPO):
        good = [by_prompt(heldout.get(stage, ()), _good_on(harmful)) for harmful in (True, False)]
        if all(good):
            measured.append(Point(stage, *map(_missed, good)))
    return measured


def _missed(good: Mapping[str, float]) -> Share:
    missed = 1 - sum(good.values()) / len(good)
    return Share(missed, wilson_bounds(missed, len(good)), len(good))
