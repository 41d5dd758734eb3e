"""Tables and lines of figures in the terminal: a line a round, tables at the end."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from rapo_ray.console import say, show
from rapo_ray.statistics import Interval

HEADER = (
    f"{'round':>7} {'total':>6} {'R':>6} {'G':>6} {'malf':>5} {'unsc':>5} {'tok':>5} {'KL':>7} {'gap':>7}"
    f" {'gen s':>6} {'ref s':>6} {'upd s':>6} {'sync':>5}"
)


def round_line(line: dict[str, Any], rounds: int) -> str:
    """A round's metrics in one line below HEADER."""
    reward, update, seconds = line["reward"], line["update"], line["seconds"]
    cells = [
        f"{line['round']:>3}/{rounds:<3}",
        *(f"{_number(reward[name], '+.2f'):>6}" for name in ("total", "risk", "general")),
        f"{line['shares']['malformed']:>5.0%}",
        f"{line['shares']['unscorable']:>5.0%}",
        f"{_number(line['lengths']['completion_tokens']['mean'], '.0f'):>5}",
        f"{_number(update['kl'], '.4f'):>7}",
        f"{_number(update['logprob_gap_mean'], '.1e'):>7}",
        *(f"{_number(seconds.get(name), '.1f'):>6}" for name in ("generate_and_judge", "reference", "update")),
        f"{_number(seconds.get('sync'), '.1f'):>5}",
    ]
    return " ".join(cells)


def summary_table(summary: dict[str, Any]) -> Table:
    """Held-out figures of every stage."""
    table = Table(title="held-out prompts, sampled as in the rounds", title_justify="left")
    names = ("total", "risk", "general", "harmful_refused", "benign_answered", "malformed", "n")
    for column in ("stage", *names):
        table.add_column(column.replace("_", " "), justify="left" if column == "stage" else "right")
    for stage, figures in summary["stages"].items():
        table.add_row(stage, *(_number(figures[name], "d" if name == "n" else ".3f") for name in names))
    return table


def verdict_table(rows: list[dict[str, Any]]) -> Table:
    """Rewards and statuses of judged completions, harmful and benign prompts apart."""
    table = Table(title="verdicts", title_justify="left")
    for column in ("prompts", "n", "total", "risk", "general", "refused", "malformed", "flagged"):
        table.add_column(column, justify="left" if column == "prompts" else "right")
    for name, chosen in (("harmful", [True]), ("benign", [False]), ("all", [True, False])):
        kept = [row for row in rows if row["harmful"] in chosen]
        mean = {part: sum(row[part] for row in kept) / len(kept) if kept else None for part in ("risk", "general")}
        total = sum(mean.values()) if kept else None  # type: ignore[arg-type]
        counts = [sum(row["status"] == status for row in kept) for status in ("malformed", "injection")]
        refused = sum(row["refused"] is True for row in kept)
        figures = (_number(value, "+.3f") for value in (total, mean["risk"], mean["general"]))
        table.add_row(name, str(len(kept)), *figures, str(refused), *map(str, counts))
    return table


SHOWN = ("asr", "asr_keyword", "over_refusal", "utility", "trace_adequate", "malformed", "unscorable")


def show_results(results: Any) -> None:
    """An evaluation's overall and suite figures, differences, gate, and what it lacks."""
    table = Table(title="share, 95 % interval, n", title_justify="left")
    suites = sorted({metric["suite"] for metric in results.metrics if metric["suite"]})
    for column in ("model", "figure", "all suites", *(suites if len(suites) > 1 else [])):
        table.add_column(column, justify="left" if column in ("model", "figure") else "right")
    found = {
        (metric["model"], metric["name"], metric["suite"]): metric
        for metric in results.metrics
        if metric["attack"] is None and metric["category"] is None and metric["level"] is None
    }
    for model in results.models:
        for name in SHOWN:
            if (model.name, name, None) in found:
                keys = [(model.name, name, suite) for suite in (None, *(suites if len(suites) > 1 else []))]
                table.add_row(model.name, name, *(_share_cell(found.get(key)) for key in keys))
    show(table)
    for step in results.differences:
        if step["suite"] is None and step["name"] in SHOWN and step["ci95"]:
            low, high = step["ci95"]
            pair = f"{step['of']} - {step['against']}"
            say(f"{step['name']}: {pair} {step['value']:+.3f} [{low:+.3f}, {high:+.3f}], n {step['n']}")
    if results.partial:
        failed = sum(row.unscorable for model in results.models for row in model.rows)
        say(f"PARTIAL: {failed} rows could not be judged; the same command judges them again")
    if results.gate is not None:
        say(f"gate: {results.gate['verdict'].upper()}")
        for check in results.gate["checks"]:
            say(f"  {check['verdict']:<12} {check['metric']} <= {check['bar']:g}: {check['why']}")


def show_intervention(cells: Any) -> None:
    """Refusal by forced depth and level."""
    table = Table(title="harmful prompts refused, by forced trace: share, 95 % interval, n", title_justify="left")
    levels = sorted({cell["level"] for cell in cells})
    for column in ("trace", *(f"level {level}" for level in levels)):
        table.add_column(column, justify="left" if column == "trace" else "right")
    found = {(cell["depth"], cell["level"]): cell for cell in cells}
    for depth in dict.fromkeys(cell["depth"] for cell in cells):
        row = [found.get((depth, level)) for level in levels]
        table.add_row(depth, *(_share_cell(cell and {**cell, "value": cell["refused"]}) for cell in row))
    show(table)


def _share_cell(metric: Any) -> str:
    if metric is None or metric["value"] is None:
        return "-"
    low, high = metric["ci95"] or (None, None)
    return f"{metric['value']:.3f} [{_number(low, '.3f')}, {_number(high, '.3f')}] {metric['n']}"


def difference_line(delta: Interval) -> str:
    """What the rounds did to the total, with its interval."""
    low, high = (_number(bound, "+.3f") for bound in delta["ci95"] or (None, None))
    return f"rapo - sft: {_number(delta['mean'], '+.3f')}, 95 % interval [{low}, {high}]"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def show_simulation(config: Any, played: Sequence[Any]) -> None:
    """A line a round: its seconds, its phases, and the share of it in which an actor of each role had nothing to do."""
    phases = list(played[0].phases)
    roles = list(played[0].busy)
    headings = [f"{phase.replace('_', ' ')} s" for phase in phases]
    table = Table("round", "seconds", *headings, *(f"{role} idle" for role in roles), "rollouts/s")
    for each in played:
        table.add_row(
            str(each.number),
            f"{each.seconds:.1f}",
            *(f"{each.phases.get(phase, 0.0):.1f}" for phase in phases),
            *(f"{1 - min(1.0, each.busy[role] / each.seconds):.0%}" for role in roles),
            f"{each.rollouts / each.seconds:.0f}",
        )
    say(
        f"{config.rollout.engines} engines, {config.judge.risk.actors} judges, {config.policy.ranks} policy ranks, "
        f"{config.prompts_per_round} x {config.samples_per_prompt} completions a round, "
        f"staleness {config.rollout.staleness}"
    )
    show(table)
