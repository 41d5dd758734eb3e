"""The figures of evaluations: overall, broken down, over the rounds, and the gate."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rapo_ray.evaluation.gate import Gate, Outcome
from rapo_ray.evaluation.metrics import Difference, Metric
from rapo_ray.evaluation.results import MONITOR, SWAPPED, Results
from rapo_ray.report import terminal, trace_charts
from rapo_ray.report.parts import NONE, Cell, Facts, Fold, Heading, Notice, Part, Section, Table, difference, figure
from rapo_ray.report.safety_charts import Point, Share
from rapo_ray.storage.reader import Evaluation, Evidence

LABELS = {
    "asr": "attack success, answer",
    "asr_whole": "attack success, thinking too",
    "asr_keyword": "attack success, string match",
    "over_refusal": "harmless prompts refused",
    "benign_answered": "harmless prompts helped with",
    "utility": "exact answers",
    "trace_adequate": "adequate traces",
    "trace_consistent": "consistent traces",
    **{name: terminal.SWAPS[kind] for name, kind in SWAPPED.items()},
    MONITOR: f"{terminal.MONITOR}, chance 0.5",
    "malformed": "completions without the form",
    "unscorable": "not judged",
    "filtered": "stopped by the endpoint's filter",
    "refused_by_field": "refused in a field of its own",
    "failed": "without an answer from the endpoint",
    "completion_tokens": "tokens of a completion",
}
BREAKDOWNS: dict[str, tuple[str, ...]] = {  # by title: what a figure is broken down by
    "By suite": ("suite",),
    "By suite and attack": ("suite", "attack"),
    "By category": ("category",),
    "By style": ("style",),
    "By language": ("language",),
    "By level": ("level",),
}
OVER_ROUNDS = ("asr", "over_refusal", "utility", "trace_adequate", "trace_follows", "monitor_accuracy", "malformed")
TONES = {"pass": "good", "fail": "bad", "inconclusive": "unsure"}


def section(evidence: Evidence) -> Section:
    """Every evaluation of the folder: the last one open, the others folded; of a run also over its rounds."""
    last = evidence.last_evaluation
    parts: list[Part] = []
    if last is not None:
        of_rounds = evidence.evaluations_of_rounds
        if len(of_rounds) > 1:
            parts.append(_over_rounds(of_rounds))
            parts += filter(None, [trace_charts.trace_metrics(of_rounds)])
        parts += [Heading(title(last)), *evaluation_parts(last.results)]  # its gate stands at the top of the page
        others = [one for one in evidence.evaluations if one is not last and one not in of_rounds]
        parts += [Fold(title(one), [*evaluation_parts(one.results), *gate_parts(one.results.gate)]) for one in others]
    return Section(
        "evaluation",
        "Evaluation",
        "Suites under attack, as shares with Wilson 95 % intervals; differences are paired, with bootstrap intervals.",
        "No evaluation in this folder: `python -m rapo_ray.evaluate`, or evaluation.every in the recipe, makes one.",
        parts,
    )


def title(evaluation: Evaluation) -> str:
    """Title of an evaluation."""
    number = evaluation.round_number
    if number is None:
        return f"Evaluation {evaluation.name}"
    return f"Evaluation after round {number}" if number else "Evaluation before the rounds"


def gate_parts(gate: Gate | None) -> list[Part]:
    """Checks of a gate, where there is one."""
    if gate is None:
        return []
    rows = [
        [
            Cell(check.metric),
            _verdict(check.verdict),
            Cell(check.why),
            figure(check.value, check.ci95, check.n),
            Cell(f"{check.sign} {check.bar:g}"),
        ]
        for check in gate.checks
    ]
    return [Table("Checks of the gate", ["figure", "verdict", "reason", "measured", "bar"], rows, words=3)]


def _verdict(outcome: Outcome) -> Cell:
    return Cell(outcome, "", TONES[outcome])


def partial_notice(results: Results) -> list[Part]:
    """Warning for a partial result; nothing for a complete one."""
    if not results.partial:
        return []
    counts = results.counts
    text = (
        f"PARTIAL: {counts.finished} of {counts.expected} rows finished, {counts.unscorable} could not be judged, "
        f"{results.failed} got no answer. "
        "No gate passes on that; the same command goes on with it. What could not be judged widens the intervals, "
        "what is missing does not."
    )
    return [Notice(text, "bad")]


def evaluation_parts(results: Results) -> list[Part]:
    """Facts and figures of one evaluation, overall and broken down."""
    parts = [*partial_notice(results), Facts(facts(results)), _table("Overall", (), results)]
    for name, breakdown in BREAKDOWNS.items():
        if any(metric.breakdown == breakdown for metric in results.metrics):
            parts.append(Fold(name, [_table(name, breakdown, results)]))
    return parts


def facts(results: Results) -> list[tuple[str, str]]:
    """Models, judge, sampling, and the number of rows, with those that are left out."""
    counts = results.counts
    dropped = ", ".join(f"{count}: {reason}" for reason, count in counts.dropped.items())
    return [
        *((name, f"{one.id}, weights {one.revision or 'unnamed'}") for name, one in results.models.items()),
        ("judge", joined(asdict(results.judge))),
        ("decoding", joined(asdict(results.decoding))),
        ("rows", f"{counts.finished} of {counts.expected} asked, {counts.unscorable} not judged"),
        ("left out", dropped or "none"),
        *([("endpoint", terminal.replies_line(results.replies))] if results.replies else []),
    ]


def joined(values: Mapping[str, Any]) -> str:
    """Names and values in one line."""
    return ", ".join(f"{name} {_plain(value)}" for name, value in values.items() if value not in (None, "")) or NONE


def _plain(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _table(caption: str, breakdown: tuple[str, ...], results: Results) -> Table:
    """Figures as rows, models as columns, then the differences where there are any (overall and by suite)."""
    figures: dict[tuple[str, ...], dict[str, Metric]] = {}  # by place and name, then by model
    for metric in results.metrics:
        if metric.breakdown == breakdown:
            key = (*(str(getattr(metric, dimension)) for dimension in breakdown), metric.name)
            figures.setdefault(key, {})[metric.model] = metric
    steps = {
        (*([step.suite] if breakdown else []), step.name, step.against): step
        for step in (results.differences if breakdown in ((), ("suite",)) else [])
        if (step.suite is not None) is bool(breakdown)
    }
    others = list(dict.fromkeys(step.against for step in results.differences)) if steps else []
    rows = []
    for key in _in_order(figures):
        *places, name = key
        row = [*map(Cell, places), Cell(LABELS.get(name, name), name)]
        row += [_figure(figures[key].get(model)) for model in results.models]
        row += [_step(steps.get((*key, other))) for other in others]
        rows.append(row)
    columns = [*breakdown, "figure", *results.models, *(f"{results.model} - {other}" for other in others)]
    return Table(caption, columns, rows, words=len(breakdown) + 1)


def _in_order(keys: Iterable[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Sort by figure, in the order of LABELS, then by place."""
    rank = {name: index for index, name in enumerate(LABELS)}
    return sorted(keys, key=lambda key: (rank.get(key[-1], len(rank)), key[-1], key[:-1]))


def _figure(metric: Metric | None) -> Cell:
    if metric is None:
        return Cell(NONE)
    form = ".1f" if metric.name == "completion_tokens" else ".3f"
    return figure(metric.value, metric.ci95, metric.n, form)


def _step(step: Difference | None) -> Cell:
    if step is None:
        return Cell(NONE)
    return difference(step.value, step.ci95, step.n)


def _over_rounds(evaluations: Sequence[Evaluation]) -> Table:
    rows = []
    for one in evaluations:
        results = one.results
        gate = _verdict(results.gate.verdict) if results.gate else Cell(NONE)
        partial = Cell("PARTIAL", "", "bad") if results.partial else Cell("whole")
        figures = [_figure(results.overall(results.model, name)) for name in OVER_ROUNDS]
        notes = [Cell(cell.text, cell.note.replace("  ", "\n")) for cell in figures]
        rows.append([Cell(str(one.round_number)), gate, partial, *notes])
    return Table("Evaluations during training", ["round", "gate", "rows", *OVER_ROUNDS], rows, words=3)


def points(evidence: Evidence) -> list[Point]:
    """Attack success and over-refusal, before, between and after: of a run's rounds, else of the last one's models."""
    last = evidence.last_evaluation
    if last is None:
        return []
    of_rounds = evidence.evaluations_of_rounds
    if len(of_rounds) > 1:
        named = [(one.results, one.results.model, title(one).removeprefix("Evaluation ")) for one in of_rounds]
    else:
        named = [(last.results, model, one.id or model) for model, one in reversed(last.results.models.items())]
    measured = []
    for results, model, name in named:
        harm, refusal = (_share(results.overall(model, metric)) for metric in ("asr", "over_refusal"))
        if harm is not None and refusal is not None:
            measured.append(Point(name, harm, refusal))
    return measured


def _share(metric: Metric | None) -> Share | None:
    if metric is None or metric.value is None or metric.ci95 is None:
        return None
    return Share(metric.value, metric.ci95, metric.n)
