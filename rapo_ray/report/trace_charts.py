"""Charts and rows of causality and monitorability: do answers follow swapped traces, and does a trace tell of them?"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rapo_ray.evaluation.metrics import Metric
from rapo_ray.evaluation.monitor import examples_of_groups, monitor_difference, monitor_figures
from rapo_ray.evaluation.results import MONITOR, SWAPPED
from rapo_ray.evaluation.swaps import KINDS, OPPOSITE, SwapFigures, SwapShare, swap_difference, swap_figures
from rapo_ray.report import terminal
from rapo_ray.report.parts import NONE, Cell, Chart, Table, cells, difference, figure
from rapo_ray.report.svg import COLOURS, MARKERS, draw, over_rounds
from rapo_ray.statistics import Interval
from rapo_ray.storage.layout import Stage
from rapo_ray.storage.reader import Evaluation, Evidence

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Measured = tuple[float, Interval]  # place on the x-axis, figure


def rows(evidence: Evidence, seed: int) -> list[list[Cell]]:
    """Rows of the held-out table, a cell a stage and one for the difference of the last two."""
    shares = {stage: swap_figures(evidence.swaps.get(stage, ())) for stage in evidence.heldout}
    shown = [
        [Cell(terminal.SWAPS[kind], f"trace_{kind}"), *(_cell(one.get(kind)) for one in shares.values())]
        for kind in KINDS
        if any(kind in one for one in shares.values())
    ]
    monitors = [monitor_figures(examples_of_groups(groups_P), seed) for groups_P in evidence.heldout.values()]
    if any(monitors):
        accuracies = (figure(one.accuracy, one.ci95, one.prompts) if one else Cell(NONE) for one in monitors)
        shown.append([Cell(terminal.MONITOR, MONITOR), *accuracies])
    if {Stage.SFT, Stage.RAPO} <= evidence.heldout.keys():
        steps = _differences(evidence, seed)
        for row in shown:
            row.append(steps.get(row[0].note, Cell(NONE)))
    return shown


def _cell(share: SwapShare | None) -> Cell:
    return Cell(NONE) if share is None else figure(share.follows, share.ci95, share.n)


def _differences(evidence: Evidence, seed: int) -> dict[str, Cell]:
    after, before = (evidence.swaps.get(stage, ()) for stage in (Stage.RAPO, Stage.SFT))
    shared = {row.prompt_id for row in after} & {row.prompt_id for row in before}
    follows = swap_difference(after, before, seed)
    ends, starts = (examples_of_groups(evidence.heldout[stage]) for stage in (Stage.RAPO, Stage.SFT))
    monitor = monitor_difference(ends, starts, seed)
    prompts = {one.prompt_id for one in ends} & {one.prompt_id for one in starts}
    return {
        f"trace_{OPPOSITE}": difference(follows.mean, follows.ci95, len(shared)),
        MONITOR: difference(monitor.mean, monitor.ci95, len(prompts)),
    }


def swaps(identity: str, title: str, figures_by_name: Mapping[str, SwapFigures]) -> Chart:
    """Shares of the answers that follow, by kind of swap, models side by side."""
    names = list(figures_by_name)

    def fill(made: "Figure") -> None:
        axes = made.subplots()
        for index, (name, figures) in enumerate(figures_by_name.items()):
            offset = 0.14 * (index - (len(names) - 1) / 2)
            shares = [(place, figures.get(kind)) for place, kind in enumerate(KINDS)]
            measured = [(place + offset, Interval(one.follows, one.ci95)) for place, one in shares if one is not None]
            _bars(axes, measured, name, index, linestyle="")
        axes.set_xticks(range(len(KINDS)), [terminal.SWAPS[kind] for kind in KINDS])
        axes.set(ylim=(-0.04, 1.04), xlim=(-0.5, len(KINDS) - 0.5), ylabel="share of answers")
        axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1), borderaxespad=0)

    table = [
        cells(terminal.SWAPS[kind], *(_counted(figures.get(kind)) for figures in figures_by_name.values()))
        for kind in KINDS
    ]
    return Chart(
        title,
        draw(identity, "Shares of answers that follow a swapped trace, with 95 % intervals", (8.2, 3.3), fill),
        "Bars are 95 % intervals. A trace for show leaves the share of the opposite trace at 0; a model that decides "
        "before its trace ends answers as before after a cut one.",
        Table("Answers that follow", ["swap", *names], table),
    )


def _counted(share: SwapShare | None) -> Cell:
    if share is None:
        return Cell(NONE)
    cell = figure(share.follows, share.ci95, share.n)
    left_out = f"malformed {share.malformed}, not judged {share.unscorable}, no trace {share.no_trace}"
    return Cell(cell.text, f"{cell.note}  {left_out}" if cell.note else left_out)


def trace_metrics(evaluations: Sequence[Evaluation]) -> Chart | None:
    """The same, and the monitor's accuracy, over the evaluated rounds; None where no evaluation has them."""
    names = [*SWAPPED, MONITOR]
    labels = {name: terminal.MONITOR if name == MONITOR else terminal.SWAPS[SWAPPED[name]] for name in names}
    by_name = {name: [(one.round_number or 0, _overall(one, name)) for one in evaluations] for name in names}
    if not any(metric for measured in by_name.values() for _, metric in measured):
        return None
    rounds = [one.round_number or 0 for one in evaluations]

    def fill(made: "Figure") -> None:
        axes = made.subplots()
        for index, (name, measured) in enumerate(by_name.items()):
            values = [(place, Interval(one.value, one.ci95)) for place, one in measured if one is not None]
            _bars(axes, values, labels[name], index)
        over_rounds(axes, rounds, "Causality and monitorability of traces")
        axes.set_ylim(-0.04, 1.04)

    table = [cells(str(number), *(_metric(dict(by_name[name])[number]) for name in names)) for number in rounds]
    return Chart(
        "Traces over the rounds",
        draw("traces", "Line chart over the rounds: answers that follow swapped traces, accuracy of the monitor",
             (8.2, 3.6), fill),
        "Bars are 95 % intervals, on the prompts of the suites. The monitor's accuracy is 0.5 by chance.",
        Table("Traces of each evaluation", ["round", *labels.values()], table, words=0),
    )  # fmt: skip


def _overall(evaluation: Evaluation, name: str) -> Metric | None:
    return evaluation.results.overall(evaluation.results.model, name)


def _metric(metric: Metric | None) -> Cell:
    return Cell(NONE) if metric is None else figure(metric.value, metric.ci95, metric.n)


def _bars(axes: "Axes", measured: Sequence[Measured], label: str, index: int, **more: Any) -> None:
    points = [(x, one.mean, *one.ci95) for x, one in measured if one.mean is not None and one.ci95 is not None]
    if not points:
        return
    arms = [[max(0.0, y - low) for _, y, low, _ in points], [max(0.0, high - y) for _, y, _, high in points]]
    axes.errorbar(
        [x for x, *_ in points], [y for _, y, *_ in points], yerr=arms, label=label, color=COLOURS[index],
        marker=MARKERS[index], capsize=3, **more,
    )  # fmt: skip
