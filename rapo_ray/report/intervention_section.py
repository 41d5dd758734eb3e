"""The intervention study: refusal of harmful prompts against the depth of a forced safety trace, by level."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rapo_ray.report.parts import Chart, Section, Table, cells, figure
from rapo_ray.report.svg import COLOURS, MARKERS, draw
from rapo_ray.storage.reader import Evidence, Line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FREE = "free"  # the model's own trace, which no length was forced on


def section(evidence: Evidence) -> Section:
    """The study of a run's model, where one was made."""
    found = evidence.intervention
    return Section(
        "intervention",
        "Forced traces",
        "Does a deeper safety trace make the model refuse more of what is harmful? The traces were written for it.",
        "No study was made: `python -m rapo_ray.intervene --model RUN` makes one.",
        [chart(found["cells"])] if found else (),
    )


def chart(found: Sequence[Line]) -> Chart:
    """One line a level over the sentences that were forced; the model's own traces as dashed lines."""
    levels = sorted({cell["level"] for cell in found})
    depths = list(dict.fromkeys(cell["depth"] for cell in found))
    of = {(cell["depth"], cell["level"]): cell for cell in found}

    def fill(made: "Figure") -> None:
        axes = made.subplots()
        for index, level in enumerate(levels):
            forced = [cell for cell in found if cell["level"] == level and cell["depth"] != FREE and cell["ci95"]]
            arms = [
                [max(0.0, cell["refused"] - cell["ci95"][0]) for cell in forced],
                [max(0.0, cell["ci95"][1] - cell["refused"]) for cell in forced],
            ]
            x, y = [cell["sentences"] for cell in forced], [cell["refused"] for cell in forced]
            style: Any = {"color": COLOURS[index], "marker": MARKERS[index], "capsize": 3}
            axes.errorbar(x, y, yerr=arms, label=f"level {level}", **style)
            own = of.get((FREE, level))
            if own is not None and own["refused"] is not None:
                axes.axhline(own["refused"], color=COLOURS[index], linewidth=1.0, linestyle=(0, (4, 3)))
        axes.set(ylim=(-0.04, 1.04), xlabel="sentences of the forced trace", ylabel="refused")
        axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1), borderaxespad=0)

    rows = [
        cells(depth, *(figure(one["refused"], one["ci95"], one["n"]) if one else "-" for one in row))
        for depth in depths
        for row in [[of.get((depth, level)) for level in levels]]
    ]
    return Chart(
        "Refusal against the depth of a forced trace",
        draw("intervention", "Line chart of refusal against sentences of a forced trace, by level", (8.2, 3.6), fill),
        "Harmful prompts. Bars are 95 % intervals; dashed lines are the model's own traces. Deeper is to the right.",
        Table("Harmful prompts refused", ["trace", *(f"level {level}" for level in levels)], rows),
    )
