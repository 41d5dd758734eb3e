"""The intervention study: refusal of harmful prompts against the depth of a forced safety trace, by level."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rapo_ray.evaluation.intervention import FREE, Cell, InterventionResults
from rapo_ray.report import trace_charts
from rapo_ray.report.parts import NONE, Chart, Part, Section, Table, cells, figure
from rapo_ray.report.svg import COLOURS, MARKERS, draw
from rapo_ray.storage.reader import Evidence

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def section(evidence: Evidence) -> Section:
    """Study of a run's model, where there is one."""
    return Section(
        "intervention",
        "Forced traces",
        "Does a deeper safety trace make the model refuse more of what is harmful? The traces were written for it.",
        "No study was made: `python -m rapo_ray.intervene --model RUN` makes one.",
        _parts(evidence.intervention) if evidence.intervention else (),
    )


def _parts(study: InterventionResults) -> list[Part]:
    swapped = (
        [trace_charts.swaps("study-swaps", "Swapped traces of the study", {"the model": study.swaps})]
        if study.swaps
        else []
    )
    return [chart(study.cells), *swapped]


def chart(study: Sequence[Cell]) -> Chart:
    """One line a level over the sentences that were forced; the model's own traces as dashed lines."""
    levels = sorted({cell.level for cell in study})
    depths = list(dict.fromkeys(cell.depth for cell in study))
    by_place = {(cell.depth, cell.level): cell for cell in study}

    def fill(made: "Figure") -> None:
        axes = made.subplots()
        for index, level in enumerate(levels):
            forced = [cell for cell in study if cell.level == level and cell.depth != FREE]
            points = [(one.sentences, one.refused, *one.ci95) for one in forced if one.refused is not None and one.ci95]
            x, y = [sentences for sentences, *_ in points], [refused for _, refused, *_ in points]
            arms = [
                [max(0.0, refused - low) for _, refused, low, _ in points],
                [max(0.0, high - refused) for _, refused, _, high in points],
            ]
            style: Any = {"color": COLOURS[index], "marker": MARKERS[index], "capsize": 3}
            axes.errorbar(x, y, yerr=arms, label=f"level {level}", **style)
            own = by_place.get((FREE, level))
            if own is not None and own.refused is not None:
                axes.axhline(own.refused, color=COLOURS[index], linewidth=1.0, linestyle=(0, (4, 3)))
        axes.set(ylim=(-0.04, 1.04), xlabel="sentences of the forced trace", ylabel="refused")
        axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1), borderaxespad=0)

    rows = [
        cells(depth, *(figure(one.refused, one.ci95, one.n) if one else NONE for one in row))
        for depth in depths
        for row in [[by_place.get((depth, level)) for level in levels]]
    ]
    return Chart(
        "Refusal against the depth of a forced trace",
        draw("intervention", "Line chart of refusal against sentences of a forced trace, by level", (8.2, 3.6), fill),
        "Harmful prompts. Bars are 95 % intervals; dashed lines are the model's own traces. Deeper is to the right.",
        Table("Harmful prompts refused", ["trace", *(f"level {level}" for level in levels)], rows),
    )
