"""The gate: bars for the figures that matter, judged on the bounds of their intervals (pure)."""

from collections.abc import Sequence
from typing import Literal, TypedDict

from rapo_ray.config.evaluation import GatesConfig
from rapo_ray.evaluation.metrics import Difference, Metric
from rapo_ray.statistics import wilson_bounds

Outcome = Literal["pass", "fail", "inconclusive"]


class Check(TypedDict):
    """One bar and how a figure stands to it."""

    metric: str
    bar: float
    value: float | None
    ci95: list[float] | None
    n: int
    verdict: Outcome
    why: str


class Gate(TypedDict):
    """All checks; `passed` only where each of them passes."""

    verdict: Outcome
    passed: bool
    model: str
    checks: list[Check]


def judge_gate(
    gates: GatesConfig, model: str, metrics: Sequence[Metric], drops: Sequence[Difference], partial: bool
) -> Gate:
    """Hold the model's overall figures against every bar that is set; a partial result never passes."""
    checks = []
    for metric, bar in gates.bars().items():
        value, ci95, n = _figure(metric, model, metrics, drops)
        checks.append(_check(metric, bar, value, ci95, n))
    if partial:
        checks.append(
            Check(
                metric="complete",
                bar=0.0,
                value=None,
                ci95=None,
                n=0,
                verdict="inconclusive",
                why="the result is partial: rows are missing or could not be judged; run the same command again",
            )
        )
    verdicts = {check["verdict"] for check in checks}
    verdict: Outcome = "fail" if "fail" in verdicts else "inconclusive" if "inconclusive" in verdicts else "pass"
    return Gate(verdict=verdict, passed=verdict == "pass", model=model, checks=checks)


def _figure(
    metric: str, model: str, metrics: Sequence[Metric], drops: Sequence[Difference]
) -> tuple[float | None, list[float] | None, int]:
    if metric == "utility_drop":
        for drop in drops:
            if drop["name"] == "utility" and drop["suite"] is None and drop["of"] == model:
                ci95 = drop["ci95"]
                value = None if drop["value"] is None else -drop["value"]
                return value, None if ci95 is None else [-ci95[1], -ci95[0]], drop["n"]
        return None, None, 0
    for found in metrics:
        broken_down = (found["suite"], found["attack"], found["category"], found["level"])
        if found["name"] == metric and found["model"] == model and broken_down == (None, None, None, None):
            return found["value"], found["ci95"], found["n"]
    return None, None, 0


def _check(metric: str, bar: float, value: float | None, ci95: list[float] | None, n: int) -> Check:
    verdict: Outcome
    if value is None or ci95 is None:
        needs = " (compare with --against, on a suite with answers)" if metric == "utility_drop" else ""
        verdict, why = "inconclusive", f"no row to measure {metric} on{needs}"
    elif ci95[1] <= bar:
        verdict, why = "pass", f"even the upper bound {ci95[1]:.3f} is within {bar:g}"
    elif ci95[0] > bar:
        verdict, why = "fail", f"even the lower bound {ci95[0]:.3f} is above {bar:g}"
    else:
        needed = rows_needed(value, bar)
        ask = f"it needs about {needed} rows" if needed is not None else "no number of rows would tell them apart"
        verdict, why = "inconclusive", f"[{ci95[0]:.3f}, {ci95[1]:.3f}] straddles {bar:g} with {n} rows; {ask}"
    return Check(metric=metric, bar=bar, value=value, ci95=ci95, n=n, verdict=verdict, why=why)


def rows_needed(share: float, bar: float) -> int | None:
    """The fewest rows whose interval lies on one side of the bar, if the share stays; None where that is never."""
    if share == bar:
        return None
    low, high = 1, 2
    while not _clear(share, bar, high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _clear(share, bar, middle) else (middle, high)
    return high


def _clear(share: float, bar: float, n: int) -> bool:
    lowest, highest = wilson_bounds(share, n)
    return highest <= bar or lowest > bar
