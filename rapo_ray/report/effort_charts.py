"""Success against effort: curves over the number of tries, and their tables."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rapo_ray.evaluation.effort_figures import TWINS, AsrAt, EffortFigures, SplitFigures
from rapo_ray.evaluation.results import Results
from rapo_ray.evaluation.rows import Split
from rapo_ray.report import terminal
from rapo_ray.report.parts import NONE, Cell, Chart, Fold, Part, Table, difference, figure
from rapo_ray.report.svg import COLOURS, MARKERS, clean, draw

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TWIN_LABELS = dict(zip(TWINS, ("benign twins refused", "benign twins helped with"), strict=True))


def parts(results: Results) -> list[Part]:
    """Curves and tables of an evaluation's tries; none where there were none."""
    effort = results.effort
    if effort is None:
        return []
    models = list(results.models)
    folds: list[Part] = [
        Fold(title, [_broken_down(title, name, effort, models)])
        for title, name in (("Tries by family", "family"), ("Tries by k", "k"), ("Tries by attacker", "attacker"))
    ]
    return [_curves(effort, models), _overall(effort, models), *folds]


def _curves(effort: EffortFigures, models: Sequence[str]) -> Chart:
    """A panel a split, a line a model: the evaluated one in the first colour."""
    splits = list(effort.families)

    def fill(made: "Figure") -> None:
        panels = made.subplots(1, len(splits), sharey=True, squeeze=False)[0]
        for axes, split in zip(panels, splits, strict=True):
            for index, model in enumerate(models):
                _line(axes, effort.curve(model, split), model, index)
            _over_tries(axes, effort, split)

    rows = [
        [
            Cell(clean(model)),
            Cell(terminal.SPLITS[split]),
            *(_at(effort.curve(model, split), n) for n in effort.numbers),
        ]
        for split in splits
        for model in models
    ]
    return Chart(
        "Attack success against effort",
        draw("effort", "Line charts of attack success over the number of tries, by split of the families", (9.4, 3.6),
             fill),
        "The share of behaviours of which one of so many tries gets harm, by all subsets of the tries that were made; "
        "bars are 95 % intervals over behaviours. Only families that were never trained on tell of new attacks.",
        Table("Attack success within so many tries", ["model", "families", *map(str, effort.numbers)], rows, words=2),
    )  # fmt: skip


def _line(axes: "Axes", curve: Sequence[AsrAt], model: str, index: int) -> None:
    points = [(one.tries, one.value, *one.ci95) for one in curve if one.value is not None and one.ci95 is not None]
    if not points:
        return
    arms = [[max(0.0, y - low) for _, y, low, _ in points], [max(0.0, high - y) for _, y, _, high in points]]
    colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
    axes.errorbar(
        [x for x, *_ in points], [y for _, y, *_ in points], yerr=arms, label=clean(model), color=colour,
        marker=marker, capsize=3,
    )  # fmt: skip


def _over_tries(axes: "Axes", effort: EffortFigures, split: Split) -> None:
    axes.set_title(terminal.SPLITS[split])
    axes.set_xscale("log", base=2)
    axes.set_xticks(effort.numbers, [str(number) for number in effort.numbers])
    axes.minorticks_off()
    axes.set(ylim=(-0.04, 1.04), xlabel="tries", ylabel="share of behaviours")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper left", bbox_to_anchor=(0, -0.22), ncols=4, borderaxespad=0)


def _at(curve: Sequence[AsrAt], tries: int) -> Cell:
    points = {one.tries: figure(one.value, one.ci95, one.n) for one in curve}
    return points.get(tries, Cell(NONE))


def _overall(effort: EffortFigures, models: Sequence[str]) -> Table:
    """Effort, the twins and the differences, a row a figure and split, models as columns."""
    splits = {(one.model, one.split): one for one in effort.splits}
    others = list(dict.fromkeys(step.against for step in effort.differences))
    none = [Cell(NONE)] * len(others)
    rows = []
    for split in effort.families:
        label = terminal.SPLITS[split]
        some = [splits.get((model, split)) for model in models]
        rows.append([Cell("tries at the behaviours"), Cell(label), *map(_counted, some), *none])
        rows.append([Cell("tries for half of them"), Cell(label), *(_half(effort, one) for one in some), *none])
        for number in effort.numbers:
            row = [_at(effort.curve(model, split), number) for model in models]
            steps = [_step(effort, split, "asr", number, other) for other in others]
            rows.append([Cell(f"attack success, {number} tries", f"asr_at_{number}"), Cell(label), *row, *steps])
        for name, title in TWIN_LABELS.items():
            twins = [effort.twin(model, split, name) for model in models]
            row = [Cell(NONE) if one is None else figure(one.value, one.ci95, one.n) for one in twins]
            steps = [_step(effort, split, name, None, other) for other in others]
            rows.append([Cell(title, name), Cell(label), *row, *steps])
    columns = ["figure", "families", *models, *(f"{models[0]} - {other}" for other in others)]
    return Table("Tries of each model", columns, rows, words=2)


def _counted(one: SplitFigures | None) -> Cell:
    if one is None:
        return Cell(NONE)
    return Cell(str(one.tries), f"{one.behaviours} behaviours, {one.unscorable} tries not judged")


def _half(effort: EffortFigures, one: SplitFigures | None) -> Cell:
    return Cell(NONE) if one is None else Cell(terminal.half(effort, one))


def _step(effort: EffortFigures, split: Split, name: str, tries: int | None, against: str) -> Cell:
    steps = {(one.split, one.name, one.tries, one.against): one for one in effort.differences}
    step = steps.get((split, name, tries, against))
    return Cell(NONE) if step is None else difference(step.value, step.ci95, step.n)


def _broken_down(title: str, name: str, effort: EffortFigures, models: Sequence[str]) -> Table:
    """Attack success by families, k or attackers, at one try and at as many as each was tried with."""
    curves: dict[tuple[Split, object], dict[str, list[AsrAt]]] = {}
    for one in effort.asr:
        if (place := getattr(one, name)) is not None:
            curves.setdefault((one.split, place), {}).setdefault(one.model, []).append(one)
    rows = [
        [
            Cell(str(place)),
            Cell(terminal.SPLITS[split]),
            *(cell for model in models for cell in _ends(by.get(model, []))),
        ]
        for (split, place), by in curves.items()
    ]
    columns = [name, "families", *(f"{model}, {tries}" for model in models for tries in ("1 try", "most tries"))]
    return Table(title, columns, rows, words=2)


def _ends(curve: Sequence[AsrAt]) -> tuple[Cell, Cell]:
    """The first and the last point, which says for how many tries it is."""
    if not curve:
        return Cell(NONE), Cell(NONE)
    first, last = curve[0], curve[-1]
    cell = figure(last.value, last.ci95, last.n)
    return figure(first.value, first.ci95, first.n), Cell(cell.text, f"{last.tries} tries  {cell.note}")
