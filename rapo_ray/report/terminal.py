"""Tables and lines of figures in the terminal: a line a round, tables at the end."""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from rich.table import Table

from rapo_ray.console import say, show
from rapo_ray.evaluation.heldout import StageFigures
from rapo_ray.evaluation.intervention import Cell
from rapo_ray.evaluation.results import Results
from rapo_ray.evaluation.swaps import OPPOSITE, SwapFigures, follows
from rapo_ray.judging.validation import Comparison
from rapo_ray.report.parts import NONE, number
from rapo_ray.statistics import Bounds, Interval, mean
from rapo_ray.storage.layout import Stage
from rapo_ray.storage.metrics import RoundMetrics
from rapo_ray.storage.records import Delta, RunSummary, VerdictRow
from rapo_ray.types import EndpointReply, Phase, Status

HEADER = (
    f"{'round':>7} {'total':>6} {'R':>6} {'G':>6} {'malf':>5} {'unsc':>5} {'tok':>5} {'KL':>7} {'gap':>7}"
    f" {'gen s':>6} {'ref s':>6} {'upd s':>6} {'sync':>5}"
)
WIDE = (Phase.GENERATE_AND_JUDGE, Phase.REFERENCE, Phase.UPDATE)


def round_line(metrics: RoundMetrics, rounds: int) -> str:
    """A round's metrics in one line below HEADER."""
    reward, update, seconds = metrics.reward, metrics.update, metrics.seconds
    cells = [
        f"{metrics.round:>3}/{rounds:<3}",
        *(f"{number(part, '+.2f'):>6}" for part in (reward.total, reward.risk, reward.general)),
        f"{metrics.shares.malformed:>5.0%}",
        f"{metrics.shares.unscorable:>5.0%}",
        f"{number(metrics.lengths.completion_tokens.mean, '.0f'):>5}",
        f"{number(update.kl, '.4f'):>7}",
        f"{number(update.logprob_gap_mean, '.1e'):>7}",
        *(f"{number(seconds.get(phase), '.1f'):>6}" for phase in WIDE),
        f"{number(seconds.get(Phase.SYNC), '.1f'):>5}",
    ]
    return " ".join(cells)


def stage_line(stage: Stage, figures: StageFigures) -> str:
    """Held-out figures of one stage: the mechanism, then the rewards."""
    shares = {"adequate": figures.adequate, "benign answered": figures.benign_answered,
              "harmful refused": figures.harmful_refused,
              SWAPS[OPPOSITE]: follows(figures.swaps).get(OPPOSITE),
              "monitor right": figures.monitor.accuracy if figures.monitor else None}  # fmt: skip
    means = {"R": figures.risk, "G": figures.general, "total": figures.total}
    parts = [f"{name} {value:.0%}" for name, value in shares.items() if value is not None]
    parts += [f"{name} {value:.2f}" for name, value in means.items() if value is not None]
    return f"held-out {stage}: {', '.join(parts)} (n {figures.n})"


BY_LEVEL = {  # label -> figure of a level, and its form
    "adequate traces": ("adequate", ".3f"),
    "median sentences": ("sentences", ".1f"),
    "benign answered": ("benign_answered", ".3f"),
    "harmful refused": ("harmful_refused", ".3f"),
}
OVERALL = {"benign answered": "benign_answered", "harmful refused": "harmful_refused", "consistent": "consistent",
           "malformed": "malformed",
           "R": "risk", "G": "general", "total": "total"}  # fmt: skip


def show_summary(summary: RunSummary) -> None:
    """Print the held-out figures of every stage and the differences of the last two."""
    show(summary_table(summary))
    for text in (*mechanism_lines(summary.delta), difference_line("total", summary.delta.total)):
        say(text)


def summary_table(summary: RunSummary) -> Table:
    """Held-out figures, a column a stage: the mechanism by level, then the rewards."""
    stages = summary.stages
    table = Table("figure", title="held-out prompts, sampled as in the rounds", title_justify="left")
    for stage in stages:
        table.add_column(stage, justify="right")
    levels = sorted({level for figures in stages.values() for level in figures.levels})
    for label, (name, form) in BY_LEVEL.items():
        for level in levels:
            row = [getattr(figures.levels.get(level), name, None) for figures in stages.values()]
            if any(value is not None for value in row):
                table.add_row(f"{label}, level {level}", *(number(value, form) for value in row))
    for label, values in traces(list(stages.values())).items():
        table.add_row(label, *(number(value) for value in values))
    for label, name in OVERALL.items():
        table.add_row(label, *(number(getattr(figures, name)) for figures in stages.values()))
    table.add_row("n", *(str(figures.n) for figures in stages.values()))
    return table


SWAPS = {"opposite": "opposite trace followed", "cut": "answer as before, cut trace", "other": "other trace followed"}
MONITOR = "monitor's accuracy"


def traces(stages: Sequence[StageFigures]) -> dict[str, list[float | None]]:
    """Causality and monitorability of the traces as rows, a figure a stage; only those that a stage has."""
    rows = {label: [follows(figures.swaps).get(kind) for figures in stages] for kind, label in SWAPS.items()}
    rows[MONITOR] = [figures.monitor.accuracy if figures.monitor else None for figures in stages]
    return {label: values for label, values in rows.items() if any(value is not None for value in values)}


def mechanism(delta: Delta) -> dict[str, Interval]:
    """Changes of the mechanism over the rounds, by name; none in a summary of earlier versions."""
    changes = {
        "adequate traces, levels 2 and 3": delta.adequate_deep,
        "benign answered": delta.benign_answered,
        "harmful refused": delta.harmful_refused,
        SWAPS[OPPOSITE]: delta.trace_follows,
        MONITOR: delta.monitor_accuracy,
    }
    return {name: change for name, change in changes.items() if change is not None and change.mean is not None}


def mechanism_lines(delta: Delta) -> list[str]:
    """The same as lines, each with its interval."""
    return [difference_line(name, change) for name, change in mechanism(delta).items()]


def verdict_table(rows: Sequence[VerdictRow]) -> Table:
    """Rewards and statuses of judged completions, harmful and benign prompts apart."""
    table = Table(title="verdicts", title_justify="left")
    for column in ("prompts", "n", "total", "risk", "general", "refused", "malformed", "flagged"):
        table.add_column(column, justify="left" if column == "prompts" else "right")
    for name, chosen in (("harmful", [True]), ("benign", [False]), ("all", [True, False])):
        some = [row for row in rows if row.harmful in chosen]
        means = [mean(getattr(row, part) for row in some) for part in ("total", "risk", "general")]
        counts = [sum(row.status == status for row in some) for status in (Status.MALFORMED, Status.INJECTION)]
        refused = sum(row.refused is True for row in some)
        table.add_row(name, str(len(some)), *(number(value, "+.3f") for value in means), *map(str, (refused, *counts)))
    return table


def comparison_table(comparisons: Sequence[Comparison]) -> Table:
    """A judge's precision, recall and false alarms by the labels of people: shares overall, counts by category."""
    table = Table(title="judge and people: share, 95 % interval, n; counts by category", title_justify="left")
    for column in ("label", "category", "recall", "precision", "false alarms", "not judged"):
        words = column in ("label", "category")
        table.add_column(column, justify="left" if words else "right", overflow="fold")
    for one in comparisons:
        hits, alarms = one.score.hits, one.score.false_alarms
        shares = (
            (one.score.recall, hits, one.score.positives),
            (one.score.precision, hits, hits + alarms),
            (one.score.false_alarm_rate, alarms, one.score.others),
        )
        cells = [
            f"{count} of {n}" if one.category and n else _share(share.mean, share.ci95, n) for share, count, n in shares
        ]
        table.add_row(one.label, one.category or "all", *cells, str(one.unjudged))
    return table


SHOWN = (
    "asr", "asr_keyword", "over_refusal", "utility", "trace_adequate", "trace_consistent",
    "trace_follows", "trace_cut", "trace_other", "monitor_accuracy", "malformed", "unscorable",
    "filtered", "refused_by_field", "failed",
)  # fmt: skip


def show_results(results: Results) -> None:
    """Print an evaluation's overall and suite figures, differences and gate, and a warning where it is partial."""
    table = Table(title="share, 95 % interval, n", title_justify="left")
    suites = sorted({metric.suite for metric in results.metrics if metric.suite})
    shown = (None, *(suites if len(suites) > 1 else ()))
    for column in ("model", "figure", "all suites", *shown[1:]):
        table.add_column(str(column), justify="left" if column in ("model", "figure") else "right")
    metrics = {
        (metric.model, metric.name, metric.suite): metric
        for metric in results.metrics
        if metric.breakdown in ((), ("suite",))
    }
    for model in results.models:
        for name in SHOWN:
            if (model, name, None) in metrics:
                row = [metrics.get((model, name, suite)) for suite in shown]
                table.add_row(model, name, *(_share(one.value, one.ci95, one.n) if one else NONE for one in row))
    show(table)
    if results.replies:
        say(f"endpoint: {replies_line(results.replies)}")
    for step in results.differences:
        if step.suite is None and step.name in SHOWN and step.ci95:
            low, high = step.ci95
            say(f"{step.name}: {step.of} - {step.against} {step.value:+.3f} [{low:+.3f}, {high:+.3f}], n {step.n}")
    if results.partial:
        failed = results.failed
        unanswered = f", {failed} prompts got no answer from the endpoint" if failed else ""
        say(
            f"PARTIAL: {results.counts.unscorable} rows could not be judged{unanswered}; "
            "the same command goes on with them"
        )
    if results.gate is not None:
        say(f"gate: {results.gate.verdict.upper()}")
        for check in results.gate.checks:
            say(f"  {check.verdict:<12} {check.metric} {check.sign} {check.bar:g}: {check.why}")


def replies_line(replies: Mapping[str, int]) -> str:
    """Numbers of prompts by what an endpoint did with them."""
    return ", ".join(f"{replies.get(kind, 0)} {kind}" for kind in get_args(EndpointReply))


def show_intervention(cells: Sequence[Cell]) -> None:
    """Print refusal by forced depth and level."""
    table = Table(title="harmful prompts refused, by forced trace: share, 95 % interval, n", title_justify="left")
    levels = sorted({cell.level for cell in cells})
    for column in ("trace", *(f"level {level}" for level in levels)):
        table.add_column(column, justify="left" if column == "trace" else "right")
    by_place = {(cell.depth, cell.level): cell for cell in cells}
    for depth in dict.fromkeys(cell.depth for cell in cells):
        row = [by_place.get((depth, level)) for level in levels]
        table.add_row(depth, *(_share(one.refused, one.ci95, one.n) if one else NONE for one in row))
    show(table)


def show_swaps(figures: SwapFigures) -> None:
    """Print the shares of answers that follow swapped traces, where there are any."""
    if not figures:
        return
    prompts = figures[OPPOSITE].prompts
    table = Table(title=f"swapped traces of {prompts} prompts: share, 95 % interval, n", title_justify="left")
    for column in ("swap", "follows", "malformed", "unscorable", "no trace"):
        table.add_column(column, justify="left" if column == "swap" else "right")
    for kind, one in figures.items():
        counts = (one.malformed, one.unscorable, one.no_trace)
        table.add_row(SWAPS[kind], _share(one.follows, one.ci95, one.n), *map(str, counts))
    show(table)


def _share(value: float | None, ci95: Bounds | None, n: int) -> str:
    if value is None:
        return NONE
    low, high = ci95 or (None, None)
    return f"{value:.3f} [{number(low)}, {number(high)}] {n}"


def difference_line(name: str, delta: Interval) -> str:
    """Change of a held-out figure over the rounds, with its interval."""
    low, high = (number(bound, "+.3f") for bound in delta.ci95 or (None, None))
    return f"{name}, rapo - sft: {number(delta.mean, '+.3f')}, 95 % interval [{low}, {high}]"


def show_simulation(config: Any, played: Sequence[Any], layout: str, speed: float) -> None:
    """Print a line a round: its seconds, its phases, the share of it in which each role's actors were idle, and that in
    which cards computed.
    """
    phases = list(played[0].phases)
    roles = list(played[0].busy)
    headings = [f"{phase.replace('_', ' ')} s" for phase in phases]
    busy = ["cards busy"] if config.cluster.device == "gpu" else []
    table = Table("round", "seconds", *headings, *(f"{role} idle" for role in roles), *busy, "rollouts/s")
    for each in played:
        table.add_row(
            str(each.number),
            f"{each.seconds:.1f}",
            *(f"{each.phases.get(phase, 0.0):.1f}" for phase in phases),
            *(f"{1 - min(1.0, each.busy[role] / each.seconds):.0%}" for role in roles),
            *(f"{each.cards_busy:.0%}" for _ in busy),
            f"{each.rollouts / each.seconds:.1f}",
        )
    say(
        f"{config.rollout.engines} engines, {config.judge.risk.actors} judges, {config.policy.ranks} policy ranks, "
        f"{config.prompts_per_round} x {config.samples_per_prompt} completions a round, "
        f"staleness {config.rollout.staleness}; {layout}"
    )
    show(table)
    if speed != 1:
        say(f"at --speed {speed:g}: the driver's own seconds, which nothing shortens, count {speed:g} times in these")
