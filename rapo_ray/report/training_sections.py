"""Sections about the rounds: rewards, cases, lengths, the judge, time."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from rapo_ray.report import evaluation_section, heldout_section, safety_charts, time_charts, training_charts
from rapo_ray.report.parts import NONE, Cell, Facts, Notice, Part, Section, Table, number
from rapo_ray.report.svg import span
from rapo_ray.storage.reader import Evidence, Line, pick, reading
from rapo_ray.types import Status

MAX_PERIOD = 25  # rounds that count as the first, and as the last, at most
CARRY_REWARDS = (Status.OK, Status.MALFORMED, Status.INJECTION)
NO_ROUNDS = "No round in this folder."


def rewards(evidence: Evidence) -> Section:
    """Reward and its parts over the rounds."""
    parts = [training_charts.rewards(evidence.metrics)] if evidence.metrics else []
    return Section("rewards", "Rewards", "What the policy was taught by, round by round.", NO_ROUNDS, parts)


def cases(evidence: Evidence) -> Section:
    """How traces were judged, by level, over the rounds."""
    chart = training_charts.cases(evidence.metrics) if evidence.metrics else None
    return Section(
        "cases",
        "Cases by level",
        "A trace is adequate, too short for the level (fair), too long (excessive), or no safety analysis (poor).",
        "No trace was given a level and a case." if evidence.metrics else NO_ROUNDS,
        [chart] if chart else [],
    )


def lengths(evidence: Evidence) -> Section:
    """Whether the depth of the reasoning follows the risk."""
    chart = _lengths(list(evidence.rounds), evidence.rounds) if evidence.rounds else None
    return Section(
        "lengths",
        "Depth against risk",
        "RAPO wants the trace as deep as the prompt's level demands: the marks should climb with the green bands.",
        "No trace was given a level and a length." if evidence.rounds else "No rows of rounds in this folder.",
        [chart] if chart else [],
    )


def _lengths(numbers: Sequence[int], rounds: dict[int, Path]) -> Part | None:
    count = min(MAX_PERIOD, max(1, len(numbers) // 4))
    first, last = numbers[:count], numbers[-count:] if len(numbers) > 1 else []
    word = "rounds" if count > 1 else "round"
    names = (f"{word} {span(first)}", f"{word} {span(last)}" if last else "no later round")
    return training_charts.trace_lengths(
        _sentences(rounds[number] for number in first), _sentences(rounds[number] for number in last), names
    )


def _sentences(files: Iterable[Path]) -> dict[int, list[int]]:
    import pyarrow.parquet as pq

    found: dict[int, list[int]] = {}
    for path in files:
        with reading(path):
            for row in pq.read_table(path, columns=["level", "sentences"]).to_pylist():
                if row["level"] is not None and row["sentences"] is not None:
                    found.setdefault(row["level"], []).append(row["sentences"])
    return found


def trade_off(evidence: Evidence) -> Section:
    """Harm against needless refusals, of evaluations, else of the held-out prompts."""
    measured = evaluation_section.points(evidence)
    if measured:
        names = ("attack success", "over-refusal")
        lead = "From the evaluations: harmful prompts complied with, harmless prompts refused."
    else:
        measured = heldout_section.points(evidence.heldout)
        names = ("harmful, not refused", "harmless, not answered")
        lead = "From the held-out prompts: a completion without the form counts as neither a refusal nor an answer."
    empty = "Nothing here measures both harmful and harmless prompts."
    parts = [safety_charts.trade_off(measured, *names)] if measured else []
    return Section("trade-off", "Safety and helpfulness", lead, empty, parts)


def judge(evidence: Evidence) -> Section:
    """Whether the judge can be believed."""
    parts: list[Part] = []
    if evidence.canaries:
        limits = evidence.config.judge.canaries if evidence.config else None
        parts.append(safety_charts.canaries(evidence.canaries, limits))
    elif evidence.metrics:
        parts.append(Notice("No canaries in this run (judge.canaries.every)."))
    if evidence.metrics:
        agreement = safety_charts.kappa(evidence.metrics)
        parts.append(agreement or Notice("No second judge in this run (judge.second)."))
        parts.append(_statuses(evidence.metrics))
    lead = "A failed verdict is never a score: it is counted here and left out."
    return Section("judge", "Judge health", lead, "No canaries and no rounds in this folder.", parts)


def _statuses(metrics: Sequence[Line]) -> Table:
    """Verdicts by status: all of the run, and the round with the largest share."""
    counts = [{status: pick(one, "judge", "statuses", status.value) or 0 for status in Status} for one in metrics]
    totals = [sum(count.values()) for count in counts]
    rows = []
    for status in Status:
        total = sum(count[status] for count in counts)
        shares = [count[status] / whole if whole else 0.0 for count, whole in zip(counts, totals, strict=True)]
        worst = max(range(len(shares)), key=shares.__getitem__)
        failed = status not in CARRY_REWARDS
        rows.append(
            [
                Cell(status.value),
                Cell("failed" if failed else "carries rewards", "", "bad" if failed and total else ""),
                Cell(str(total)),
                Cell(number(total / sum(totals) if sum(totals) else None, ".1%")),
                Cell(number(shares[worst], ".1%"), f"round {metrics[worst]['round']}") if total else Cell(NONE),
            ]
        )
    return Table("Verdicts by status", ["status", "kind", "verdicts", "share", "most in a round"], rows, words=2)


def time(evidence: Evidence) -> Section:
    """Where the time went, and whether the update and the engines agree."""
    parts: list[Part] = []
    if evidence.metrics:
        charts = (time_charts.seconds(evidence.metrics), time_charts.update(evidence.metrics))
        parts += [chart for chart in charts if chart is not None]
    spent = pick(evidence.summary, "seconds")
    if isinstance(spent, dict):
        parts.append(Facts([(name.replace("_", " "), f"{number(value, '.1f')} s") for name, value in spent.items()]))
    lead = "Seconds of each phase, tokens a second, and the update's KL and log-prob gap."
    return Section("time", "Time and update", lead, NO_ROUNDS, parts)
