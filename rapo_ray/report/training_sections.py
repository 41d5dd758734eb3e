"""Sections about the rounds: rewards, cases, lengths, the judge, time."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rapo_ray.report import evaluation_section, heldout_section, safety_charts, time_charts, training_charts
from rapo_ray.report.parts import NONE, Cell, Facts, Notice, Part, Section, Table, cells, number
from rapo_ray.report.svg import span
from rapo_ray.storage.metrics import RoundMetrics
from rapo_ray.storage.reader import Evidence, read_rows
from rapo_ray.types import Status

MAX_PERIOD = 25  # rounds that count as the first, and as the last, at most
CARRY_REWARDS = (Status.OK, Status.MALFORMED, Status.INJECTION)
NO_ROUNDS = "No round in this folder."


def mechanism(evidence: Evidence) -> Section:
    """Depth by level and answers to benign prompts, over the rounds."""
    chart = training_charts.mechanism(evidence.metrics)
    return Section(
        "mechanism",
        "Mechanism",
        "Depth should follow risk, and benign users be helped: a reward can rise without either.",
        "No round of this folder has figures by level." if evidence.metrics else NO_ROUNDS,
        [chart] if chart else [],
    )


def rewards(evidence: Evidence) -> Section:
    """Reward and its parts over the rounds."""
    parts = [training_charts.rewards(evidence.metrics)] if evidence.metrics else []
    return Section("rewards", "Rewards", "What the policy was taught by, round by round.", NO_ROUNDS, parts)


def attacks(evidence: Evidence) -> Section:
    """Attacks of the rounds, and the bound on over-refusal."""
    charts = (training_charts.attacks(evidence.metrics), training_charts.bound(evidence.metrics))
    parts: list[Part] = [chart for chart in charts if chart is not None]
    if any(one.attacks is not None for one in evidence.metrics):
        parts.append(_families(evidence.metrics))
    return Section(
        "attacks",
        "Attacks of the rounds",
        "An attacker that adapts should not win more and more, nor benign users be refused for its sake.",
        "No attacker and no bound on over-refusal in this run." if evidence.metrics else NO_ROUNDS,
        parts,
    )


def _families(metrics: Sequence[RoundMetrics]) -> Table:
    """Success by family, in the first and in the second half of the rounds."""
    attacked = [one.attacks for one in metrics if one.attacks is not None]
    halves = (attacked[: len(attacked) // 2], attacked[len(attacked) // 2 :])
    rows = []
    for family in sorted({family for one in attacked for family in one.by_family}):
        tallies = [[one.by_family[family] for one in half if family in one.by_family] for half in halves]
        counts = [(sum(tally.count for tally in half), sum(tally.n for tally in half)) for half in tallies]
        shares = [number(count / n if n else None, ".0%") for count, n in counts]
        rows.append(
            cells(family, *(text for share, (_, n) in zip(shares, counts, strict=True) for text in (share, str(n))))
        )
    columns = ["family", "complied, first half", "answers", "complied, second half", "answers"]
    return Table("Attack success by family", columns, rows)


def cases(evidence: Evidence) -> Section:
    """Verdicts on the traces, by level, over the rounds."""
    charts = (training_charts.cases(evidence.metrics), training_charts.decisions(evidence.metrics))
    return Section(
        "cases",
        "Cases by level",
        "A trace is adequate, too short for the level (fair), too long (excessive), no safety analysis (poor), or it "
        "contradicts itself or its answer (contradictory).",
        "No trace was given a level and a case." if evidence.metrics else NO_ROUNDS,
        [chart for chart in charts if chart is not None],
    )


def lengths(evidence: Evidence) -> Section:
    """Depth of the reasoning against the risk."""
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


@dataclass(frozen=True, slots=True)
class _Trace:
    level: int | None
    sentences: int | None


def _sentences(files: Iterable[Path]) -> dict[int, list[int]]:
    by_level: dict[int, list[int]] = {}
    for path in files:
        for trace in read_rows(_Trace, path):
            if trace.level is not None and trace.sentences is not None:
                by_level.setdefault(trace.level, []).append(trace.sentences)
    return by_level


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
    """Reliability of the judge."""
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


def _statuses(metrics: Sequence[RoundMetrics]) -> Table:
    """Verdicts by status: all of the run, and the round with the largest share."""
    counts = [{status: one.judge.statuses.get(status, 0) for status in Status} for one in metrics]
    totals = [sum(count.values()) for count in counts]
    rows = []
    for status in Status:
        total = sum(count[status] for count in counts)
        shares = [count[status] / whole if whole else 0.0 for count, whole in zip(counts, totals, strict=True)]
        worst = max(range(len(shares)), key=shares.__getitem__)
        failed = status not in CARRY_REWARDS
        kind = Cell("failed" if failed else "carries rewards", "", "bad" if failed and total else "")
        share = number(total / sum(totals) if sum(totals) else None, ".1%")
        most = Cell(number(shares[worst], ".1%"), f"round {metrics[worst].round}") if total else Cell(NONE)
        rows.append(cells(status.value, kind, str(total), share, most))
    return Table("Verdicts by status", ["status", "kind", "verdicts", "share", "most in a round"], rows, words=2)


def time(evidence: Evidence) -> Section:
    """Seconds of each phase, and agreement of the update and the engines."""
    parts: list[Part] = []
    if evidence.metrics:
        charts = (time_charts.seconds(evidence.metrics), time_charts.update(evidence.metrics))
        parts += [chart for chart in charts if chart is not None]
    if evidence.summary is not None:
        seconds = evidence.summary.seconds.items()
        parts.append(Facts([(name.replace("_", " "), f"{number(value, '.1f')} s") for name, value in seconds]))
    lead = "Seconds of each phase, tokens a second, and the update's KL and log-prob gap."
    return Section("time", "Time and update", lead, NO_ROUNDS, parts)
