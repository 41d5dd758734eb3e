"""Charts of a round's time and of its update."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rapo_ray.report.parts import Chart
from rapo_ray.report.svg import COLOURS, bins, clean, draw, line, over_rounds
from rapo_ray.report.training_charts import data_table, round_numbers, series
from rapo_ray.storage.reader import Line, pick

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def seconds(metrics: Sequence[Line]) -> Chart | None:
    """Where the time of a round goes, stacked, and how many tokens a second each phase makes."""
    phases = list(dict.fromkeys(name for one in metrics for name in one.get("seconds") or {}))
    if not phases:
        return None
    parts = [[metrics[index] for index in part] for part in bins(len(metrics))]
    rounds, middles = round_numbers(metrics), [sum(round_numbers(part)) / len(part) for part in parts]
    rates = list(dict.fromkeys(name for one in metrics for name in one.get("tokens_per_second") or {}))

    def fill(made: "Figure") -> None:
        left, right = made.subplots(1, 2)
        bottom = [0.0] * len(parts)
        width = 0.8 * len(metrics) / len(parts)
        for index, phase in enumerate(phases):
            spent = [sum(pick(one, "seconds", phase) or 0.0 for one in part) / len(part) for part in parts]
            colour = COLOURS[index % len(COLOURS)]
            left.bar(middles, spent, width, bottom, label=_words(phase), color=colour, edgecolor="white", linewidth=0.4)
            bottom = [low + more for low, more in zip(bottom, spent, strict=True)]
        over_rounds(left, rounds, "Seconds of a round", "seconds")
        for index, phase in enumerate(rates):
            line(right, rounds, series(metrics, "tokens_per_second", phase), _words(phase), index % len(COLOURS))
        over_rounds(right, rounds, "Tokens a second", "tokens/s")
        right.set_ylim(bottom=0)

    columns = {f"{_words(name)}, s": ("seconds", name) for name in phases}
    columns |= {f"{_words(name)}, tokens/s": ("tokens_per_second", name) for name in rates}
    return Chart(
        "Time of a round",
        draw("seconds", "Stacked bars of the seconds of each phase, and tokens a second, by round", (9.4, 3.5), fill),
        "Generating and judging go on side by side and are one phase.",
        data_table("Seconds of each phase and tokens a second", metrics, columns, ".1f"),
    )


def update(metrics: Sequence[Line]) -> Chart | None:
    """KL to the reference, and how far the engines' log-probs are from the policy's."""
    gaps = (("logprob_gap_mean", "mean gap"), ("logprob_gap_max", "largest gap"))
    kl = series(metrics, "update", "kl")
    found = {key: series(metrics, "update", key) for key, _ in gaps}
    if all(value is None for values in (kl, *found.values()) for value in values):
        return None
    rounds = round_numbers(metrics)

    def fill(made: "Figure") -> None:
        left, right = made.subplots(1, 2)
        line(left, rounds, kl, "KL to the reference", 0)
        over_rounds(left, rounds, "KL divergence", "nats a token")
        for index, (key, label) in enumerate(gaps):
            line(right, rounds, [value or None for value in found[key]], label, 1 + index)
        over_rounds(right, rounds, "Log-prob gap, engine against policy", "nats")
        positive = [value for values in found.values() for value in values if value]
        if positive:
            right.set_yscale("log")
            right.set_ylim(
                10 ** math.floor(math.log10(min(positive))), 10 ** math.ceil(math.log10(max(positive)) + 0.01)
            )
            right.yaxis.set_major_formatter("{x:g}")
            right.yaxis.set_minor_formatter("")

    columns = {"KL": ("update", "kl")} | {label: ("update", key) for key, label in gaps}
    return Chart(
        "The update",
        draw("update", "Line charts of KL and of the log-prob gap over the rounds", (9.4, 3.5), fill),
        "A gap that grows says that the engines hold other weights, or compute otherwise, than the policy.",
        data_table("KL and log-prob gap", metrics, columns, ".3g"),
    )


def _words(name: str) -> str:
    return clean(name).replace("_", " ")
