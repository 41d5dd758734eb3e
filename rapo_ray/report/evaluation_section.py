"""The figures of evaluations: overall, broken down, over the rounds, and the gate."""

from collections.abc import Iterable, Sequence
from typing import Any

from rapo_ray.report.parts import NONE, Cell, Facts, Fold, Heading, Notice, Part, Section, Table, figure, number
from rapo_ray.report.safety_charts import Point, Share
from rapo_ray.storage.reader import Evaluation, Evidence, Line, pick

LABELS = {
    "asr": "attack success, answer",
    "asr_whole": "attack success, thinking too",
    "asr_keyword": "attack success, string match",
    "over_refusal": "harmless prompts refused",
    "benign_answered": "harmless prompts helped with",
    "utility": "exact answers",
    "trace_adequate": "adequate traces",
    "malformed": "completions without the form",
    "unscorable": "not judged",
    "completion_tokens": "tokens of a completion",
}
WAYS = {  # title -> what a figure is broken down by
    "By suite": ("suite",),
    "By suite and attack": ("suite", "attack"),
    "By category": ("category",),
    "By level": ("level",),
}
ALL_WAYS = ("suite", "attack", "category", "level")
OVER_ROUNDS = ("asr", "over_refusal", "utility", "trace_adequate", "malformed")
TONES = {"pass": "good", "fail": "bad", "inconclusive": "unsure"}


def section(evidence: Evidence) -> Section:
    """Every evaluation of the folder: the one that counts opened, the others folded; of a run also over its rounds."""
    last = evidence.last_evaluation
    parts: list[Part] = []
    if last is not None:
        of_rounds = evidence.evaluations_of_rounds
        if len(of_rounds) > 1:
            parts.append(_over_rounds(of_rounds))
        parts += [Heading(title(last)), *_one(last)]  # its gate stands at the top of the page
        others = [one for one in evidence.evaluations if one is not last and one not in of_rounds]
        parts += [Fold(title(one), [*_one(one), *(gate_parts(one.gate) if one.gate else ())]) for one in others]
    return Section(
        "evaluation",
        "Evaluation",
        "Suites under attack, as shares with Wilson 95 % intervals; differences are paired, with bootstrap intervals.",
        "No evaluation in this folder: `python -m rapo_ray.evaluate`, or evaluation.every in the recipe, makes one.",
        parts,
    )


def title(evaluation: Evaluation) -> str:
    """An evaluation's name for people."""
    if evaluation.round_number is None:
        return f"Evaluation {evaluation.name}"
    return (
        f"Evaluation after round {evaluation.round_number}"
        if evaluation.round_number
        else "Evaluation before the rounds"
    )


def gate_parts(gate: Line) -> list[Part]:
    """The checks of a gate."""
    rows = [
        [
            Cell(str(check.get("metric"))),
            Cell(str(check.get("verdict")), "", TONES.get(str(check.get("verdict")), "")),
            Cell(str(check.get("why", ""))),
            figure(check.get("value"), check.get("ci95"), check.get("n", 0)),
            Cell(number(check.get("bar"), "g")),
        ]
        for check in gate.get("checks", [])
    ]
    return [Table("Checks of the gate", ["figure", "verdict", "reason", "measured", "bar"], rows, words=3)]


def partial_notice(results: Line) -> list[Part]:
    """The warning that a partial result carries; nothing for a whole one."""
    if not results.get("partial"):
        return []
    asked, finished, failed = (pick(results, "counts", name) for name in ("asked", "finished", "unscorable"))
    text = (
        f"PARTIAL: {finished} of {asked} rows finished, {failed} could not be judged. No gate passes on that; "
        "the same command goes on with it. What could not be judged widens the intervals, what is missing does not."
    )
    return [Notice(text, "bad")]


def _one(evaluation: Evaluation) -> list[Part]:
    results = evaluation.results
    models = list(results["models"])
    against = list(dict.fromkeys(step["against"] for step in results["differences"]))
    parts = [*partial_notice(results), Facts(facts(results)), _table("Overall", (), results, models, against)]
    for name, ways in WAYS.items():
        if any(_ways_of(metric) == ways for metric in results["metrics"]):
            parts.append(Fold(name, [_table(name, ways, results, models, against)]))
    return parts


def facts(results: Line) -> list[tuple[str, str]]:
    """What was evaluated, by whom it was judged, how it was sampled, and what is left out."""
    models = [
        (name, f"{pick(one, 'id')}, weights {pick(one, 'revision') or 'unnamed'}")
        for name, one in results["models"].items()
    ]
    judge, counts = results.get("judge") or {}, results.get("counts") or {}
    dropped = ", ".join(f"{count}: {reason}" for reason, count in (counts.get("dropped") or {}).items())
    return [
        *models,
        ("judge", joined(judge)),
        ("decoding", joined(results.get("decoding") or {})),
        ("rows", f"{counts.get('finished')} of {counts.get('asked')} asked, {counts.get('unscorable')} not judged"),
        ("left out", dropped or "none"),
    ]


def joined(values: Line) -> str:
    """A small object as one line."""
    return ", ".join(f"{name} {_plain(value)}" for name, value in values.items() if value not in (None, "")) or NONE


def _plain(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _ways_of(metric: Line) -> tuple[str, ...]:
    return tuple(way for way in ALL_WAYS if metric.get(way) is not None)


def _table(caption: str, ways: tuple[str, ...], results: Line, models: Sequence[str], against: Sequence[str]) -> Table:
    """Figures as rows, models as columns, then the differences where they were taken (overall and by suite)."""
    found: dict[tuple[str, ...], dict[str, Line]] = {}
    for metric in results["metrics"]:
        if _ways_of(metric) == ways:
            where = (*(str(metric[way]) for way in ways), metric["name"])
            found.setdefault(where, {})[metric["model"]] = metric
    steps = {
        (*([step["suite"]] if ways else []), step["name"], step["against"]): step
        for step in (results["differences"] if ways in ((), ("suite",)) else [])
        if (step["suite"] is not None) is bool(ways)
    }
    shown = against if steps else []
    rows = []
    for where in _in_order(found):
        *places, name = where
        row = [*map(Cell, places), Cell(LABELS.get(name, name), name)]
        row += [_figure(found[where].get(model)) for model in models]
        row += [_step(steps.get((*where, other))) for other in shown]
        rows.append(row)
    of = models[0] if models else ""
    columns = [*ways, "figure", *models, *(f"{of} - {other}" for other in shown)]
    return Table(caption, columns, rows, words=len(ways) + 1)


def _in_order(found: Iterable[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """By figure, in the order of LABELS, then by place."""
    rank = {name: index for index, name in enumerate(LABELS)}
    return sorted(found, key=lambda where: (rank.get(where[-1], len(rank)), where[-1], where[:-1]))


def _figure(metric: Line | None) -> Cell:
    if metric is None:
        return Cell(NONE)
    form = ".1f" if metric["name"] == "completion_tokens" else ".3f"
    return figure(metric["value"], metric["ci95"], metric["n"], form)


def _step(step: Line | None) -> Cell:
    if step is None:
        return Cell(NONE)
    cell = figure(step["value"], step["ci95"], step["n"], "+.3f")
    clear = step["ci95"] and (step["ci95"][0] > 0 or step["ci95"][1] < 0)
    return Cell(cell.text, cell.note, "sure" if clear else "")


def overall(evaluation: Evaluation, model: str, name: str) -> Line | None:
    """A model's overall figure."""
    for metric in evaluation.results["metrics"]:
        if (metric["model"], metric["name"], _ways_of(metric)) == (model, name, ()):
            found: Line = metric
            return found
    return None


def _over_rounds(evaluations: Sequence[Evaluation]) -> Table:
    rows = []
    for one in evaluations:
        model = next(iter(one.results["models"]), "")
        verdict = str(pick(one.gate, "verdict") or NONE)
        partial = Cell("PARTIAL", "", "bad") if one.results.get("partial") else Cell("whole")
        row = [Cell(str(one.round_number)), Cell(verdict, "", TONES.get(verdict, "")), partial]
        found = [_figure(overall(one, model, name)) for name in OVER_ROUNDS]
        rows.append([*row, *(Cell(cell.text, cell.note.replace("  ", "\n")) for cell in found)])
    return Table("Evaluations during training", ["round", "gate", "rows", *OVER_ROUNDS], rows, words=3)


def points(evidence: Evidence) -> list[Point]:
    """Attack success and over-refusal, before, between and after: of a run's rounds, else of the last one's models."""
    last = evidence.last_evaluation
    if last is None:
        return []
    of_rounds = evidence.evaluations_of_rounds
    if len(of_rounds) > 1:
        named = [(one, next(iter(one.results["models"])), title(one).removeprefix("Evaluation ")) for one in of_rounds]
    else:
        ids = {name: str(pick(one, "id") or name) for name, one in last.results["models"].items()}
        named = [(last, model, ids[model]) for model in reversed(ids)]
    found = []
    for evaluation, model, name in named:
        harm, refusal = (_share(overall(evaluation, model, figure)) for figure in ("asr", "over_refusal"))
        if harm is not None and refusal is not None:
            found.append(Point(name, harm, refusal))
    return found


def _share(metric: Line | None) -> Share | None:
    if metric is None or metric["value"] is None or metric["ci95"] is None:
        return None
    low, high = metric["ci95"]
    return Share(metric["value"], (low, high), metric["n"])
