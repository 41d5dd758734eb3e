"""A run's figures as metrics of Ray, which any Prometheus scrapes from the nodes' metrics ports."""

import math
from collections.abc import Iterable
from typing import Any

from rapo_ray.watching.series import RESTARTS, ROUNDS, SERIES, Line, Value, canary_values, values


class Exported:
    """The series of one run; Ray exports them for as long as this process lives."""

    def __init__(self, run: str, rounds: int) -> None:
        from ray.util.metrics import Counter, Gauge

        made = {"gauge": Gauge, "counter": Counter}
        self._metrics: dict[str, Any] = {}
        for series in SERIES:
            metric = made[series.kind](series.name, series.help, tag_keys=("run", *series.tags))
            self._metrics[series.name] = metric.set_default_tags({"run": run})
        self._set([Value(ROUNDS, rounds, {})])

    def round(self, line: Line) -> None:
        """A round ended with this line of metrics."""
        self._set(values(line))

    def canaries(self, found: Line, asked: int) -> None:
        """The judge was measured on so many canaries."""
        self._set(canary_values(found, asked))

    def restarted(self, role: str) -> None:
        """An actor of the role was started again."""
        self._set([Value(RESTARTS, 1, {"role": role})])

    def _set(self, found: Iterable[Value]) -> None:
        kinds = {series.name: series.kind for series in SERIES}
        for one in found:
            metric = self._metrics[one.name]
            if kinds[one.name] == "gauge":
                metric.set(math.nan if one.value is None else one.value, tags=one.tags)  # not the last round's figure
            elif one.value:
                metric.inc(one.value, tags=one.tags)
