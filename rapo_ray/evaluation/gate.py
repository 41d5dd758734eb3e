"""The gate: bars for the figures that matter, judged on the bounds of their intervals (pure)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rapo_ray.config.evaluation import LEAST, GatesConfig, of_tries
from rapo_ray.evaluation.effort_figures import EffortFigures, gated
from rapo_ray.evaluation.metrics import Difference, Metric, overall
from rapo_ray.statistics import Bounds, wilson_bounds

Outcome = Literal["pass", "fail", "inconclusive"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One bar, and a figure measured against it."""

    metric: str
    bar: float
    value: float | None
    ci95: Bounds | None
    n: int
    verdict: Outcome
    why: str

    @property
    def sign(self) -> str:
        """Relation in which the figure must stand to the bar."""
        return ">=" if self.metric in LEAST else "<="


@dataclass(frozen=True, slots=True)
class Gate:
    """All checks; `passed` only where each of them passes."""

    verdict: Outcome
    passed: bool
    model: str
    checks: list[Check]


def judge_gate(
    gates: GatesConfig,
    model: str,
    metrics: Sequence[Metric],
    drops: Sequence[Difference],
    partial: bool,
    effort: EffortFigures | None = None,
) -> Gate:
    """Compare the model's overall figures with every bar that is set; a partial result never passes."""
    attacked = gated(effort, model)
    checks = [
        _check(metric, bar, *(attacked.get(metric) or _figure(metric, model, metrics, drops)))
        for metric, bar in gates.bars().items()
    ]
    if partial:
        why = "the result is partial: rows are missing or could not be judged; run the same command again"
        checks.append(Check(metric="complete", bar=0.0, value=None, ci95=None, n=0, verdict="inconclusive", why=why))
    verdicts = {check.verdict for check in checks}
    verdict: Outcome = "fail" if "fail" in verdicts else "inconclusive" if "inconclusive" in verdicts else "pass"
    return Gate(verdict, verdict == "pass", model, checks)


def _figure(
    metric: str, model: str, metrics: Sequence[Metric], drops: Sequence[Difference]
) -> tuple[float | None, Bounds | None, int]:
    if metric != "utility_drop":
        figure = overall(metrics, model, metric)
        return (figure.value, figure.ci95, figure.n) if figure is not None else (None, None, 0)
    for drop in drops:
        if (drop.name, drop.suite, drop.of) == ("utility", None, model) and drop.value is not None and drop.ci95:
            return -drop.value, (-drop.ci95[1], -drop.ci95[0]), drop.n
    return None, None, 0


def _check(metric: str, bar: float, value: float | None, ci95: Bounds | None, n: int) -> Check:
    if value is None or ci95 is None:
        verdict, why = _unmeasured(metric)
    elif metric in LEAST:
        verdict, why = _at_least(metric, bar, value, ci95, n)
    else:
        verdict, why = _at_most(metric, bar, value, ci95, n)
    return Check(metric=metric, bar=bar, value=value, ci95=ci95, n=n, verdict=verdict, why=why)


def _unmeasured(metric: str) -> tuple[Outcome, str]:
    needs = ""
    if metric == "utility_drop":
        needs = " (compare with --against, on a suite with answers)"
    elif of_tries(metric):
        needs = " (it needs harmful and benign prompts, each with as many scorable tries of held-out families)"
    return "inconclusive", f"no row to measure {metric} on{needs}"


def _at_most(metric: str, bar: float, value: float, ci95: Bounds, n: int) -> tuple[Outcome, str]:
    if ci95[1] <= bar:
        return "pass", f"even the upper bound {ci95[1]:.3f} is within {bar:g}"
    if ci95[0] > bar:
        return "fail", f"even the lower bound {ci95[0]:.3f} is above {bar:g}"
    return "inconclusive", _straddles(metric, bar, ci95, n, rows_needed(value, bar))


def _at_least(metric: str, bar: float, value: float, ci95: Bounds, n: int) -> tuple[Outcome, str]:
    if ci95[0] >= bar:
        return "pass", f"even the lower bound {ci95[0]:.3f} reaches {bar:g}"
    if ci95[1] < bar:
        return "fail", f"even the upper bound {ci95[1]:.3f} is below {bar:g}"
    needed = rows_needed(1 - value, 1 - bar)  # Wilson's interval is symmetric
    return "inconclusive", _straddles(metric, bar, ci95, n, needed)


def _straddles(metric: str, bar: float, ci95: Bounds, n: int, needed: int | None) -> str:
    things = "behaviours" if of_tries(metric) else "rows"
    if needed is None:
        remedy = f"no number of {things} would tell them apart"
    elif of_tries(metric):
        remedy = f"about {max(1, needed - n)} more behaviours would decide"
    else:
        remedy = f"it needs about {needed} rows"
    return f"[{ci95[0]:.3f}, {ci95[1]:.3f}] straddles {bar:g} with {n} {things}; {remedy}"


def rows_needed(share: float, bar: float) -> int | None:
    """Fewest rows whose interval lies on one side of the bar, if the share stays; None where no number is enough."""
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
