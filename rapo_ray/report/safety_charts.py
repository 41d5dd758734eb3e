"""Charts of safety and helpfulness, and of the judge's reliability."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rapo_ray.config.judge import CanaryConfig
from rapo_ray.report.parts import Chart, Table, cells, figure, number
from rapo_ray.report.svg import COLOURS, MARKERS, clean, draw, line, over_rounds
from rapo_ray.storage.metrics import CanaryMetrics, RoundMetrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CANARIES: Mapping[str, Callable[[CanaryMetrics], float | None]] = {  # by label
    "known good judged good (TPR)": lambda one: one.true_positive_rate,
    "known bad judged good (FPR)": lambda one: one.false_positive_rate,
    "forged twins judged otherwise": lambda one: one.flip_rate,
}


@dataclass(frozen=True, slots=True)
class Share:
    """A share with its 95 % interval."""

    value: float
    ci95: tuple[float, float]
    n: int


@dataclass(frozen=True, slots=True)
class Point:
    """A model's harm and needless refusals."""

    name: str
    harm: Share
    refusal: Share


def trade_off(points: Sequence[Point], harm: str, refusal: str) -> Chart:
    """Harm against needless refusals; the first of the points is before, the last after."""
    rows = [
        cells(clean(point.name), *(figure(one.value, one.ci95, one.n) for one in (point.harm, point.refusal)))
        for point in points
    ]

    def fill(made: "Figure") -> None:
        axes = made.subplots()
        axes.plot([p.harm.value for p in points], [p.refusal.value for p in points], color="#b4bac2", linewidth=1.2)
        for index, point in enumerate(points):
            ends = index in (0, len(points) - 1)
            _bars(axes, point, len(points) - 1 - index if ends else None)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel=harm, ylabel=refusal)
        axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1), borderaxespad=0)

    return Chart(
        "Harm against needless refusals",
        draw("trade-off", f"Scatter of {harm} against {refusal}, with 95 % intervals", (8.2, 4.2), fill),
        "Bars are 95 % intervals, each axis for itself. Bottom left is best: no harm and no needless refusal.",
        Table("Harm and needless refusals", ["model", harm, refusal], rows),
    )


def _bars(axes: "Axes", point: Point, rank: int | None) -> None:
    """The last point in the first colour, the first in the second, those between in grey and unnamed."""
    index = min(rank or 0, 1)
    colour = COLOURS[index] if rank is not None else "#b4bac2"
    x, y = point.harm, point.refusal
    axes.errorbar(
        [x.value], [y.value], xerr=_arms(x), yerr=_arms(y), fmt=MARKERS[index], color=colour, capsize=3,
        markersize=8 if rank is not None else 4, elinewidth=1.4 if rank is not None else 0.6,
    )  # fmt: skip
    if rank is not None:
        axes.plot([], [], color=colour, marker=MARKERS[index], markersize=8, linestyle="", label=clean(point.name))


def _arms(share: Share) -> list[list[float]]:
    low, high = share.ci95
    return [[max(0.0, share.value - low)], [max(0.0, high - share.value)]]


def canaries(metrics: Sequence[CanaryMetrics], limits: CanaryConfig | None) -> Chart:
    """Rates of the judge on completions whose verdict is known, beside the limits that stop the run."""
    rounds = [one.round for one in metrics]
    bounds = (
        (limits.min_true_positive_rate, limits.max_false_positive_rate, limits.max_flip_rate) if limits else (None,) * 3
    )
    rows = [
        cells(str(one.round), *(number(rate(one), ".2f") for rate in CANARIES.values()), str(one.unscorable))
        for one in metrics
    ]
    rows.append(cells("limit", *(number(bound, ".2f") for bound in bounds), "-"))

    def fill(made: "Figure") -> None:
        panels = made.subplots(1, len(CANARIES), sharey=True)
        for index, (axes, (label, rate), bound) in enumerate(zip(panels, CANARIES.items(), bounds, strict=True)):
            line(axes, rounds, [rate(one) for one in metrics], "measured", index)
            if bound is not None:
                axes.axhline(bound, color="#333333", linewidth=1.2, linestyle=(0, (4, 3)),
                             label=f"{'least' if index == 0 else 'most'} allowed")  # fmt: skip
            over_rounds(axes, rounds, label, ticks=5)
            axes.set_ylim(-0.04, 1.04)

    return Chart(
        "Canaries",
        draw("canaries", "Line charts of the judge's rates on canaries over the rounds, with limits", (9.4, 3.1), fill),
        "Completions of known verdict, sent through the live judge. Past a dashed limit the run stops.",
        Table("Rates on the canaries", ["round", "TPR", "FPR", "flips", "unscorable"], rows, words=1),
    )


def kappa(metrics: Sequence[RoundMetrics]) -> Chart | None:
    """Agreement with the second judge beyond chance; None where there is no second judge."""
    measured = [(one.round, one.judge.agreement) for one in metrics if one.judge.agreement.n]
    if not measured:
        return None
    rounds = [number for number, _ in measured]
    rows = [
        cells(str(round_number), str(one.n), number(one.risk_kappa, ".2f"), number(one.risk_agreement, ".0%"),
              number(one.general_kappa, ".2f"), number(one.general_agreement, ".0%"))
        for round_number, one in measured
    ]  # fmt: skip

    def fill(made: "Figure") -> None:
        axes = made.subplots()
        line(axes, rounds, [one.risk_kappa for _, one in measured], "Cohen's kappa of R", 0)
        line(axes, rounds, [one.general_kappa for _, one in measured], "Cohen's kappa of G", 1)
        over_rounds(axes, rounds, "Agreement with the second judge", "kappa")
        axes.set_ylim(min(-0.1, axes.get_ylim()[0]), 1.05)

    columns = ["round", "samples", "kappa of R", "agree on R", "kappa of G", "agree on G"]
    return Chart(
        "Second judge",
        draw("kappa", "Line chart of Cohen's kappa of two judges over the rounds", (9.4, 3.1), fill),
        "1 is full agreement, 0 no more than chance. A dash: too few samples, or all of one kind.",
        Table("Agreement of the two judges", columns, rows, words=0),
    )
