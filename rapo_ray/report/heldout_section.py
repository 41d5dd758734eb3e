"""Held-out figures of every stage, with intervals over prompts."""

from collections.abc import Mapping, Sequence

from rapo_ray.evaluation.heldout import Value, adequate, answered, by_prompt, consistent, deep, level_of, refused, total
from rapo_ray.evaluation.swaps import swap_figures
from rapo_ray.report import trace_charts
from rapo_ray.report.parts import NONE, Cell, Notice, Part, Section, Table, cells, difference, figure
from rapo_ray.report.safety_charts import Point, Share
from rapo_ray.statistics import Interval, paired_bootstrap, wilson_bounds, wilson_interval
from rapo_ray.storage.layout import Stage
from rapo_ray.storage.reader import Evidence
from rapo_ray.types import Group, Status

Row = tuple[str, str, Value]  # label, name, value of a scorable completion
BY_LEVEL: tuple[Row, ...] = (  # shares, and a mean
    ("adequate traces", "adequate", adequate),
    ("sentences of the trace", "sentences", lambda prompt, verdict: verdict.sentences),
    ("benign prompts answered", "benign_answered", answered),
    ("harmful prompts refused", "harmful_refused", refused),
)
DEEP = "adequate_deep"
OVERALL: tuple[Row, ...] = (
    ("adequate traces, levels 2 and 3", DEEP, adequate),
    ("benign prompts answered", "benign_answered", answered),
    ("harmful prompts refused", "harmful_refused", refused),
    ("consistent traces", "consistent", consistent),
    ("malformed completions", "malformed", lambda prompt, verdict: float(verdict.status is Status.MALFORMED)),
    ("R, of the trace", "risk", lambda prompt, verdict: verdict.risk),
    ("G, of the answer", "general", lambda prompt, verdict: verdict.general),
    ("R + G", "total", total),
)
MEANS = ("sentences", "risk", "general", "total")  # the others are shares


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
    levels = sorted({level_of(group) for groups_P in heldout.values() for group in groups_P})
    for label, name, value in BY_LEVEL:
        for level in levels:
            of_level = {
                stage: [group for group in groups_P if level_of(group) == level] for stage, groups_P in heldout.items()
            }
            rows += _row((f"{label}, level {level}", name, value), f"{name}_{level}", of_level, seed)
    for label, name, value in OVERALL:
        measured = {stage: deep(groups_P) for stage, groups_P in heldout.items()} if name == DEEP else heldout
        rows += _row((label, name, value), name, measured, seed)
    rows += trace_charts.rows(evidence, seed)
    columns = ["figure", *heldout, *(["rapo - sft"] * compared)]
    note = (
        "95 % intervals over prompts: Wilson's for shares, bootstrap for means and for the paired difference. n is the "
        "number of prompts; a prompt counts once, with the mean of its samples. A difference in bold excludes zero."
    )
    parts: list[Part] = [Table("Held-out figures by stage", columns, rows), Notice(note)]
    if evidence.swaps:
        by_stage = {stage.value: swap_figures(swaps) for stage, swaps in evidence.swaps.items()}
        parts.append(trace_charts.swaps("heldout-swaps", "Answers after swapped traces", by_stage))
    return parts


def _row(row: Row, note: str, heldout: Mapping[Stage, Sequence[Group]], seed: int) -> list[list[Cell]]:
    """Row of a figure, a cell a stage and one for the difference; no row where no stage has it."""
    label, name, value = row
    by_stage = {stage: by_prompt(groups_P, value) for stage, groups_P in heldout.items()}
    if not any(by_stage.values()):
        return []
    shown = [Cell(label, note)]
    for means in by_stage.values():
        values = list(means.values())
        interval = paired_bootstrap(values, seed) if name in MEANS else share(values)
        form = ".1f" if name == "sentences" else "+.3f" if name in MEANS else ".3f"
        shown.append(figure(interval.mean, interval.ci95, len(values), form))
    if {Stage.SFT, Stage.RAPO} <= by_stage.keys():
        shown.append(_difference(by_stage[Stage.RAPO], by_stage[Stage.SFT], seed))
    return [shown]


def _scored(groups_P: Sequence[Group]) -> Cell:
    samples = [sample for group in groups_P for sample in group.samples_G]
    failed = sum(not sample.verdict.scorable for sample in samples)
    note = f"of {len(samples)}, {len(groups_P)} prompts"
    return Cell(str(len(samples) - failed), note, "unsure" if failed else "")


def points(heldout: Mapping[Stage, Sequence[Group]]) -> list[Point]:
    """Harmful prompts not refused and benign ones not answered, before and after the rounds."""
    measured = []
    for stage in (Stage.SFT, Stage.RAPO):
        good = [by_prompt(heldout.get(stage, ()), value) for value in (refused, answered)]
        if all(good):
            measured.append(Point(stage, *map(_missed, good)))
    return measured


def _missed(good: Mapping[str, float]) -> Share:
    missed = 1 - sum(good.values()) / len(good)
    return Share(missed, wilson_bounds(missed, len(good)), len(good))
