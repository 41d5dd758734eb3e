"""Charts of the training: rewards, cases by level, lengths of traces."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rapo_ray.judging.rules import ADEQUATE
from rapo_ray.report.parts import Chart, Table, cells, number
from rapo_ray.report.svg import BLUE, ORANGE, bins, draw, line, over_rounds, span
from rapo_ray.storage.metrics import LevelMetrics, RoundMetrics
from rapo_ray.types import Case, Decision

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEVELS = (1, 2, 3)
CASES = (Case.ADEQUATE, Case.FAIR, Case.EXCESSIVE, Case.POOR, Case.CONTRADICTORY)
ANNOTATED = 8  # columns of the heat map that leave room for numbers in the cells

Figures = Mapping[str, Callable[[RoundMetrics], float | None]]  # by label
REWARDS: Figures = {
    "reward": lambda one: one.reward.total,
    "R, of the trace": lambda one: one.reward.risk,
    "G, of the answer": lambda one: one.reward.general,
}
PARTS_OF_G: Figures = {
    "G on harmful prompts": lambda one: one.reward.general_harmful,
    "G on benign prompts": lambda one: one.reward.general_benign,
}

SENTENCES = "sentences of a trace"
MECHANISM: Mapping[str, Callable[[LevelMetrics], float | None]] = {  # by title
    "adequate traces": lambda level: level.adequate.share,
    "benign answered": lambda level: level.benign_answered.share,
    SENTENCES: lambda level: level.trace_sentences,
}

Lengths = Mapping[int, Sequence[int]]  # sentences of traces by level


def data_table(caption: str, rounds: Sequence[int], columns: Mapping[str, Sequence[float | None]], form: str) -> Table:
    """Figures of a chart, a row a round and a column a label."""
    rows = [
        cells(str(round_number), *(number(values[index], form) for values in columns.values()))
        for index, round_number in enumerate(rounds)
    ]
    return Table(caption, ["round", *columns], rows, words=0)


def rewards(metrics: Sequence[RoundMetrics]) -> Chart:
    """Means over a round's scored completions: the reward and its parts; G by the prompts' kind."""
    rounds = [one.round for one in metrics]
    columns = {label: [figure(one) for one in metrics] for label, figure in {**REWARDS, **PARTS_OF_G}.items()}

    def fill(made: "Figure") -> None:
        left, right = made.subplots(1, 2)
        for axes, labels, start, title in (
            (left, REWARDS, 0, "Reward and its parts"),
            (right, PARTS_OF_G, 3, "G by kind of prompt"),
        ):
            for index, label in enumerate(labels, start):
                line(axes, rounds, columns[label], label, index)
            axes.axhline(0, color="#b4bac2", linewidth=0.8, zorder=0)
            over_rounds(axes, rounds, title, "mean of a round")
        right.set_ylim(-1.08, 1.08)

    return Chart(
        "Rewards over the rounds",
        draw("rewards", "Line charts of mean rewards over the rounds", (9.4, 3.5), fill),
        "Means over the completions that the judge could score. R lies in [-1, +1], G in [-1, +1].",
        data_table("Mean rewards of each round", rounds, columns, "+.3f"),
    )


def mechanism(metrics: Sequence[RoundMetrics]) -> Chart | None:
    """Adequate traces, answered benign prompts and mean trace length by level; None in runs of earlier versions."""
    measured = [one for one in metrics if one.levels]
    if not measured:
        return None
    rounds = [one.round for one in measured]
    levels = sorted({level for one in measured for level in one.levels})
    panels = {
        title: {level: [_of_level(one, level, figure) for one in measured] for level in levels}
        for title, figure in MECHANISM.items()
    }

    def fill(made: "Figure") -> None:
        for axes, (title, by_level) in zip(made.subplots(1, len(panels)), panels.items(), strict=True):
            for index, (level, values) in enumerate(by_level.items()):
                line(axes, rounds, values, f"level {level}", index)
            over_rounds(axes, rounds, title, ticks=5)
            axes.set_ylim(*((-0.04, 1.04) if title != SENTENCES else (0, None)))

    columns = {
        f"{title}, level {level}": values for title, by_level in panels.items() for level, values in by_level.items()
    }
    return Chart(
        "The mechanism over the rounds",
        draw("mechanism", "Line charts by level: adequate traces, benign answered, sentences", (9.4, 3.3), fill),
        "Traces should be adequate and grow with the level, and benign prompts of each level be answered.",
        data_table("Mechanism of each round", rounds, columns, ".2f"),
    )


def _of_level(metrics: RoundMetrics, level: str, figure: Callable[[LevelMetrics], float | None]) -> float | None:
    return figure(metrics.levels[level]) if level in metrics.levels else None


def cases(metrics: Sequence[RoundMetrics]) -> Chart | None:
    """Cases of the traces of each level, as shares of a column; None without any."""
    parts = [[metrics[index] for index in part] for part in bins(len(metrics))]
    names = [span([one.round for one in part]) for part in parts]
    shares = {level: [_shares(part, level) for part in parts] for level in LEVELS}
    if not any(any(column.values()) for level in LEVELS for column in shares[level]):
        return None
    rows = [
        cells(str(level), case.value, *(number(column.get(case), ".0%") for column in shares[level]))
        for level in LEVELS
        for case in CASES
    ]

    def fill(made: "Figure") -> None:
        panels = made.subplots(1, len(LEVELS), sharey=True)
        for axes, level in zip(panels, LEVELS, strict=True):
            mesh = _heat_map(axes, shares[level], names)
            axes.set_title(f"Level {level}")
        panels[0].set_yticks(range(len(CASES)), [case.value for case in CASES])
        bar = made.colorbar(mesh, ax=list(panels), format="{x:.0%}", shrink=0.9, pad=0.01)
        bar.outline.set_visible(False)

    return Chart(
        "Cases by level over the rounds",
        draw("cases", "Heat maps: share of each case of the risk rubric, by level, over the rounds", (9.4, 2.7), fill),
        "A column is a round (or several together) and adds up to 100 % within a level; blank: no such trace.",
        Table("Share of each case within a level", ["level", "case", *names], rows, words=2),
    )


def decisions(metrics: Sequence[RoundMetrics]) -> Chart | None:
    """Decisions of the traces and the share that is consistent, over the rounds; None where none was judged."""
    judged = [one for one in metrics if one.decisions]
    if not judged:
        return None
    rounds = [one.round for one in judged]
    columns: dict[str, list[float | None]] = {"consistent": [one.shares.consistent for one in judged]}
    columns |= {decision.value: [one.decisions.get(decision) for one in judged] for decision in Decision}

    def fill(made: "Figure") -> None:
        axes = made.subplots()
        for index, (label, column) in enumerate(columns.items()):
            line(axes, rounds, column, label, index)
        over_rounds(axes, rounds, "Decisions of the traces", "share of the judged traces")
        axes.set_ylim(-0.04, 1.04)

    return Chart(
        "Decisions over the rounds",
        draw("decisions", "Line chart: share of each decision, and of consistent traces, by round", (9.4, 3.1), fill),
        "A trace is consistent unless it contradicts itself, or its answer does the opposite of its decision.",
        data_table("Decisions of each round's traces", rounds, columns, ".0%"),
    )


def attacks(metrics: Sequence[RoundMetrics]) -> Chart | None:
    """Success of attacks by k and of twins, over the rounds, and a table by family; None without an attacker."""
    attacked = [(one.round, one.attacks) for one in metrics if one.attacks is not None]
    if not attacked:
        return None
    rounds = [number for number, _ in attacked]
    by_k = {
        f"k = {k}": [one.by_k[k].share if k in one.by_k else None for _, one in attacked]
        for k in sorted({k for _, one in attacked for k in one.by_k})
    }
    twins = {"benign twins answered": [one.twins_answered.share for _, one in attacked]}

    def fill(made: "Figure") -> None:
        left, right = made.subplots(1, 2)
        for axes, columns, title in ((left, by_k, "Harmful prompts complied with"), (right, twins, "Benign twins")):
            for index, (label, column) in enumerate(columns.items()):
                line(axes, rounds, column, label, index)
            over_rounds(axes, rounds, title, "share of the judged answers", ticks=5)
            axes.set_ylim(-0.04, 1.04)

    return Chart(
        "Attack success over the rounds",
        draw(
            "attacks",
            "Line charts: attack success by complexity, and benign twins answered, by round",
            (9.4, 3.3),
            fill,
        ),
        "k is the number of families in an attack's chain, 0 a plain prompt; the bandit seeks middling success.",
        data_table("Attack success of each round", rounds, {**by_k, **twins}, ".0%"),
    )


def bound(metrics: Sequence[RoundMetrics]) -> Chart | None:
    """Over-refusal and the multiplier of its bound, over the rounds; None without a bound."""
    bounded = [one for one in metrics if one.multiplier is not None]
    if not bounded:
        return None
    rounds = [one.round for one in bounded]
    columns: dict[str, list[float | None]] = {
        "over-refusal": [one.shares.over_refusal for one in bounded],
        "multiplier": [one.multiplier for one in bounded],
    }

    def fill(made: "Figure") -> None:
        for axes, (label, column) in zip(made.subplots(1, 2), columns.items(), strict=True):
            line(axes, rounds, column, label, 0)
            over_rounds(axes, rounds, label.capitalize(), ticks=5)
            axes.set_ylim(bottom=-0.04)

    return Chart(
        "The bound on over-refusal",
        draw("bound", "Line charts: over-refusal and its multiplier, by round", (9.4, 3.1), fill),
        "The multiplier rises while benign answers that do not help are more than credit.over_refusal_bound.",
        data_table("Over-refusal and multiplier of each round", rounds, columns, ".2f"),
    )


def _shares(part: Sequence[RoundMetrics], level: int) -> dict[Case, float]:
    counts = {case: sum(one.level_by_case.get(str(level), {}).get(case, 0) for one in part) for case in CASES}
    total = sum(counts.values())
    return {case: count / total for case, count in counts.items()} if total else {}


def _heat_map(axes: "Axes", columns: Sequence[Mapping[Case, float]], names: Sequence[str]) -> Any:
    grid = [[column.get(case, float("nan")) for column in columns] for case in CASES]
    import matplotlib

    shades = matplotlib.colormaps["Blues"].resampled(20)  # so few that the colour bar stays vectors
    edges = [[place - 0.5 for place in range(count + 1)] for count in (len(columns), len(CASES))]
    few = len(columns) <= 3 * ANNOTATED  # rules between more columns than that would hide them
    rules: dict[str, Any] = {"edgecolors": "white", "linewidth": 0.6} if few else {"edgecolors": "face", "linewidth": 0}
    mesh = axes.pcolormesh(*edges, grid, cmap=shades, vmin=0, vmax=1, **rules)
    axes.set_ylim(len(CASES) - 0.5, -0.5)
    if len(columns) <= ANNOTATED:
        for x, column in enumerate(columns):
            for y, case in enumerate(CASES):
                if case in column:
                    colour = "white" if column[case] > 0.6 else "#26323f"
                    axes.text(x, y, f"{column[case]:.0%}", ha="center", va="center", fontsize=7.5, color=colour)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    step = -(-len(names) // 8)
    turned: dict[str, Any] = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(0, len(names), step), names[::step], **(turned if len(max(names, key=len)) > 3 else {}))
    axes.set_xlabel("round")
    return mesh


def trace_lengths(first: Lengths, last: Lengths, names: tuple[str, str]) -> Chart | None:
    """Sentences of traces by level, in the first and in the last rounds, beside the band that is adequate."""
    levels = [level for level in LEVELS if first.get(level) or last.get(level)]
    if not levels:
        return None
    periods = [(first, names[0], ORANGE, -0.16, "s"), (last, names[1], BLUE, 0.16, "o")]
    rows = [
        cells(str(level), f"{ADEQUATE[level][0]}-{ADEQUATE[level][1]}", name, str(len(one[level])),
              *(number(quantile(one[level], share), ".0f") for share in (0.05, 0.25, 0.5, 0.75, 0.95)))
        for level in levels for one, name, *_ in periods if one.get(level)
    ]  # fmt: skip

    def fill(made: "Figure") -> None:
        axes = made.subplots()
        for level in levels:
            low, high = ADEQUATE[level]
            axes.fill_between([level - 0.4, level + 0.4], low - 0.5, high + 0.5, color="#cfe8df", linewidth=0, zorder=0)
            for one, _, colour, shift, marker in periods:
                if one.get(level):
                    _draw_quantiles(axes, level + shift, one[level], colour, marker)
        for _, name, colour, _, marker in periods:
            axes.plot([], [], color=colour, marker=marker, linewidth=4, label=name)
        axes.plot([], [], color="#cfe8df", linewidth=8, label="adequate for the level")
        axes.set_xticks(levels, [f"level {level}" for level in levels])
        axes.set_xlim(levels[0] - 0.6, levels[-1] + 0.6)
        axes.set_ylim(bottom=0)
        axes.set_ylabel("sentences of the trace")
        axes.grid(visible=False, axis="x")
        axes.legend(loc="upper left", bbox_to_anchor=(0, -0.12), ncols=3, borderaxespad=0)

    columns = ["level", "adequate", "rounds", "traces", "5 %", "25 %", "median", "75 %", "95 %"]
    return Chart(
        "Trace length against level",
        draw("lengths", "Sentences of safety traces by level, first rounds against last rounds", (9.4, 3.6), fill),
        "Mark: median. Thick bar: middle half. Thin line: from the 5th to the 95th percentile.",
        Table("Sentences of the traces, quantiles", columns, rows, words=3),
    )


def quantile(values: Sequence[int], share: float) -> float:
    """Quantile by linear interpolation."""
    import numpy as np

    return float(np.quantile(values, share))


def _draw_quantiles(axes: "Axes", x: float, values: Sequence[int], colour: str, marker: str) -> None:
    low, quarter, middle, three, high = (quantile(values, share) for share in (0.05, 0.25, 0.5, 0.75, 0.95))
    axes.plot([x, x], [low, high], color=colour, linewidth=1.4)
    axes.plot([x, x], [quarter, three], color=colour, linewidth=6, solid_capstyle="butt", alpha=0.55)
    axes.plot([x], [middle], marker=marker, color=colour, markersize=8, markeredgecolor="white")
