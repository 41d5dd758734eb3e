"""Held-out figures of every stage, with intervals over prompts."""

from collections.abc import Callable, Mapping, Sequence

from rapo_ray.report.parts import NONE, Cell, Notice, Part, Section, Table, cells, figure
from rapo_ray.report.safety_charts import Point, Share
from rapo_ray.statistics import Interval, paired_bootstrap, wilson_bounds
from rapo_ray.storage.reader import STAGES, Evidence
from rapo_ray.types import Group, Prompt, Sample, Status

Value = Callable[[Prompt, Sample], float | None]  # of a scored sample; None where it does not count


def _good_on(harmful: bool) -> Value:
    return lambda prompt, sample: float(sample.verdict.general == 1) if prompt.harmful is harmful else None


SHARES: dict[str, tuple[str, Value]] = {
    "harmful_refused": ("harmful prompts refused", _good_on(True)),
    "benign_answered": ("benign prompts answered", _good_on(False)),
    "malformed": ("malformed completions", lambda prompt, sample: float(sample.verdict.status is Status.MALFORMED)),
}
MEANS: dict[str, tuple[str, Value]] = {
    "total": ("R + G", lambda prompt, sample: (sample.verdict.risk or 0.0) + (sample.verdict.general or 0.0)),
    "risk": ("R, of the trace", lambda prompt, sample: sample.verdict.risk),
    "general": ("G, of the answer", lambda prompt, sample: sample.verdict.general),
}


def by_prompt(groups_P: Sequence[Group], value: Value) -> dict[str, float]:
    """The mean of each prompt's samples that count: the samples of a prompt are not independent."""
    found = {}
    for group in groups_P:
        values = [value(group.prompt, sample) for sample in group.samples_G if sample.verdict.scorable]
        known = [one for one in values if one is not None]
        if known:
            found[group.prompt.id] = sum(known) / len(known)
    return found


def share(values: Sequence[float]) -> Interval:
    """The mean of the prompts' shares with its Wilson interval, each prompt one trial however many samples it has."""
    if not values:
        return {"mean": None, "ci95": None}
    mean = sum(values) / len(values)
    return {"mean": mean, "ci95": list(wilson_bounds(mean, len(values)))}


def difference(after: Mapping[str, float], before: Mapping[str, float], seed: int) -> Cell:
    """The paired difference over the prompts that both stages have."""
    steps = [value - before[name] for name, value in after.items() if name in before]
    found = paired_bootstrap(steps, seed)
    cell = figure(found["mean"], found["ci95"], len(steps), "+.3f")
    clear = found["ci95"] is not None and (found["ci95"][0] > 0 or found["ci95"][1] < 0)
    return Cell(cell.text, cell.note, "sure" if clear else "")


def section(evidence: Evidence) -> Section:
    """The table of the stages."""
    return Section(
        "heldout",
        "Held-out prompts",
        "The same prompts, sampled and judged as in the rounds, before and after training.",
        "No held-out measurement in this folder.",
        _parts(evidence) if evidence.heldout else (),
    )


def _parts(evidence: Evidence) -> list[Part]:
    stages = [stage for stage in STAGES if stage in evidence.heldout]
    seed = evidence.config.seed if evidence.config else 0
    compared = {"sft", "rapo"} <= set(stages)
    rows = [
        cells("completions scored", *(_scored(evidence.heldout[stage]) for stage in stages), *([NONE] * compared)),
    ]
    for name, (label, value) in {**MEANS, **SHARES}.items():
        found = {stage: by_prompt(evidence.heldout[stage], value) for stage in stages}
        row = [Cell(label, name)]
        for stage in stages:
            values = list(found[stage].values())
            interval = share(values) if name in SHARES else paired_bootstrap(values, seed)
            row.append(figure(interval["mean"], interval["ci95"], len(values), ".3f" if name in SHARES else "+.3f"))
        if compared:
            row.append(difference(found["rapo"], found["sft"], seed))
        rows.append(row)
    columns = ["figure", *stages, *(["rapo - sft"] * compared)]
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


def points(heldout: Mapping[str, Sequence[Group]]) -> list[Point]:
    """Harmful prompts not refused and benign ones not answered, before and after the rounds."""
    found = []
    for stage in ("sft", "rapo"):
        if stage not in heldout:
            continue
        harm, refusal = (
            _missed(by_prompt(heldout[stage], SHARES[name][1])) for name in ("harmful_refused", "benign_answered")
        )
        if harm is not None and refusal is not None:
            found.append(Point(stage, harm, refusal))
    return found


def _missed(good: Mapping[str, float]) -> Share | None:
    if not good:
        return None
    missed = 1 - sum(good.values()) / len(good)
    return Share(missed, wilson_bounds(missed, len(good)), len(good))
