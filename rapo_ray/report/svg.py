"""Charts as inline SVG: one style, fixed ids, and no state between two of them."""

import io
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, told apart with any colour vision; each series has a marker of its own beside its colour.
BLUE, RED, GREEN, ORANGE, PURPLE, SKY, BLACK = (
    "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#333333",
)  # fmt: skip
COLOURS = (BLUE, RED, GREEN, ORANGE, PURPLE, SKY, BLACK)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
MAX_BINS = 60  # columns of a chart over rounds; more rounds are put together

_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # names come from data, and a $ in one is no formula
    "font.family": ["DejaVu Sans"],
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8a8f98",
    "axes.labelcolor": "#3c434d",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e3e6ea",
    "grid.linewidth": 0.8,
    "xtick.color": "#59616d",
    "ytick.color": "#59616d",
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.facecolor": "white",
}
_NO_METADATA: dict[str, Any] = dict.fromkeys(("Date", "Creator", "Format", "Type"))


def draw(name: str, label: str, size: tuple[float, float], fill: Callable[["Figure"], None]) -> Markup:
    """Draw a figure of `size` inches with `fill`; its ids derive from `name`, its text alternative is `label`."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    out = io.StringIO()
    style: Any = {**_STYLE, "svg.hashsalt": name}
    with matplotlib.rc_context(style):
        made = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(made)
        fill(made)
        made.savefig(out, format="svg", metadata=_NO_METADATA)
    return _inline(out.getvalue(), label)


def _inline(text: str, label: str) -> Markup:
    """The <svg> element alone, sized by its view box, without the style that would apply to the whole page."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.DOTALL)
    text = re.sub(
        r' id="[A-Za-z0-9.]+_\d+"', "", text
    )  # names of artists, the same in every figure; none refers to them
    head, body = text.split(">", 1)
    box = re.search(r'viewBox="[\d. ]+"', head)
    assert box is not None
    return Markup(f'<svg xmlns="http://www.w3.org/2000/svg" {box[0]} role="img" aria-label="{escape(label)}">{body}')


def line(axes: "Axes", x: Sequence[float], y: Sequence[float | None], label: str, index: int, **more: Any) -> None:
    """Draw one series in the colour and with the marker of its index; gaps where it has no value."""
    if all(value is None for value in y):
        return
    marker = MARKERS[index] if len(x) <= MAX_BINS else ""
    values = [float("nan") if value is None else value for value in y]
    axes.plot(x, values, label=label, color=COLOURS[index], marker=marker, **more)


def over_rounds(axes: "Axes", rounds: Sequence[float], title: str, y: str = "", ticks: int = 9) -> None:
    """Set title and labels of a chart over rounds, with whole numbers below and the legend beside the chart."""
    from matplotlib.ticker import MaxNLocator

    axes.set_title(title)
    axes.set_xlabel("round")
    axes.set_ylabel(y)
    axes.xaxis.set_major_locator(MaxNLocator(ticks, integer=True, min_n_ticks=1))
    axes.set_xlim(min(rounds) - 0.6, max(rounds) + 0.6)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(
            loc="upper left", bbox_to_anchor=(0, -0.22), ncols=4, borderaxespad=0, handlelength=1.4, columnspacing=1.2
        )


def bins(count: int, limit: int = MAX_BINS) -> list[range]:
    """Split `count` things in order into at most `limit` runs of nearly equal length."""
    parts = min(count, limit)
    return [range(part * count // parts, (part + 1) * count // parts) for part in range(parts)]


def span(rounds: Sequence[int]) -> str:
    """Label of consecutive rounds."""
    return str(rounds[0]) if len(rounds) == 1 else f"{rounds[0]}-{rounds[-1]}"


def clean(text: object) -> str:
    """Text without what UTF-8 cannot encode."""
    return str(text).encode("utf-8", "replace").decode("utf-8")
