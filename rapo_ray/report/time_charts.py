"""Charts of a round's time and of its update."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rapo_ray.report.parts import Chart
from rapo_ray.report.svg import COLOURS, bins, clean, draw, line, over_rounds
from rapo_ray.report.training_charts import data_table
from rapo_ray.storage.metrics import RoundMetrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def seconds(metrics: Sequence[RoundMetrics]) -> Chart | None:
    """Seconds of a round by phase, stacked, and tokens a second of each phase."""
    phases = list(dict.fromkeys(name for one in metrics for name in one.seconds))
    if not phases:
        return None
    parts = [[metrics[index] for index in part] for part in bins(len(metrics))]
    rounds = [one.round for one in metrics]
    middles = [sum(one.round for one in part) / len(part) for part in parts]
    rates = {
        phase: [one.tokens_per_second.get(phase) for one in metrics]
        for phase in dict.fromkeys(name for one in metrics for name in one.tokens_per_second)
    }

    def fill(made: "Figure") -> None:
        left, right = made.subplots(1, 2)
        bottom = [0.0] * len(parts)
        width = 0.8 * len(metrics) / len(parts)
        for index, phase in enumerate(phases):
            spent = [sum(one.seconds.get(phase, 0.0) for one in part) / len(part) for part in parts]
            colour = COLOURS[index % len(COLOURS)]
            left.bar(middles, spent, width, bottom, label=_words(phase), color=colour, edgecolor="white", linewidth=0.4)
            bottom = [low + more for low, more in zip(bottom, spent, strict=True)]
        over_rounds(left, rounds, "Seconds of a round", "seconds")
        for index, (phase, values) in enumerate(rates.items()):
            line(right, rounds, values, _words(phase), index % len(COLOURS))
        over_rounds(right, rounds, "Tokens a second", "tokens/s")
        right.set_ylim(bottom=0)

    columns = {f"{_words(phase)}, s": [one.seconds.get(phase) for one in metrics] for phase in phases}
    columns |= {f"{_words(phase)}, tokens/s": values for phase, values in rates.items()}
    return Chart(
        "Time of a round",
        draw("seconds", "Stacked bars of the seconds of each phase, and tokens a second, by round", (9.4, 3.5), fill),
        "Generating and judging go on side by side and are one phase.",
        data_table("Seconds of each phase and tokens a second", rounds, columns, ".1f"),
    )


def update(metrics: Sequence[RoundMetrics]) -> Chart | None:
    """KL to the reference, and the gap between the engines' log-probs and the policy's."""
    kl = [one.update.kl for one in metrics]
    gaps = {
        "mean gap": [one.update.logprob_gap_mean for one in metrics],
        "largest gap": [one.update.logprob_gap_max for one in metrics],
    }
    if all(value is None for values in (kl, *gaps.values()) for value in values):
        return None
    rounds = [one.round for one in metrics]

    def fill(made: "Figure") -> None:
        left, right = made.subplots(1, 2)
        line(left, rounds, kl, "KL to the reference", 0)
        over_rounds(left, rounds, "KL divergence", "nats a token")
        for index, (label, values) in enumerate(gaps.items(), start=1):
            line(right, rounds, [value or None for value in values], label, index)
        over_rounds(right, rounds, "Log-prob gap, engine against policy", "nats")
        positive = [value for values in gaps.values() for value in values if value]
        if positive:
            right.set_yscale("log")
            right.set_ylim(
                10 ** math.floor(math.log10(min(positive))), 10 ** math.ceil(math.log10(max(positive)) + 0.01)
            )
            right.yaxis.set_major_formatter("{x:g}")
            right.yaxis.set_minor_formatter("")

    return Chart(
        "The update",
        draw("update", "Line charts of KL and of the log-prob gap over the rounds", (9.4, 3.5), fill),
        "A gap that grows says that the engines hold other weights, or compute otherwise, than the policy.",
        data_table("KL and log-prob gap", rounds, {"KL": kl, **gaps}, ".3g"),
    )


def _words(name: str) -> str:
    return clean(name).replace("_", " ")
