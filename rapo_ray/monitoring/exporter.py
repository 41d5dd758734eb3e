"""A run's figures as metrics of Ray, which any Prometheus scrapes from the nodes' metrics ports."""

import math
from collections.abc import Iterable

from rapo_ray.monitoring.lasting import Lasting
from rapo_ray.monitoring.series import RESTARTS, ROUNDS, SERIES, Line, Series, Value, canary_values, values


class Exported:
    """The series of one run, exported until it is closed."""

    def __init__(self, run: str, rounds: int) -> None:
        from ray.util.metrics import Counter, Gauge

        def tags(series: Series) -> tuple[str, ...]:
            return ("run", *series.tags)

        self._gauges = {one.name: Gauge(one.name, one.help, tags(one)) for one in SERIES if one.kind == "gauge"}
        self._counters = {one.name: Counter(one.name, one.help, tags(one)) for one in SERIES if one.kind == "counter"}
        for metric in (*self._gauges.values(), *self._counters.values()):
            metric.set_default_tags({"run": run})
        self._lasting = Lasting()
        self._take("run", [Value(ROUNDS, rounds, {})])

    def round(self, line: Line) -> None:
        """A round ended with this line of metrics."""
        self._take("round", values(line))

    def canaries(self, found: Line, asked: int) -> None:
        """The judge was measured on so many canaries."""
        self._take("canaries", canary_values(found, asked))

    def restarted(self, role: str) -> None:
        """An actor of the role was started again."""
        self._counters[RESTARTS].inc(1, tags={"role": role})

    def close(self) -> None:
        """Set nothing more: Ray is about to go."""
        self._lasting.close()

    def _take(self, group: str, found: Iterable[Value]) -> None:
        settings = []
        for one in found:
            if one.name in self._gauges:  # NaN is a gap, and not the last round's figure
                settings.append((self._gauges[one.name], math.nan if one.value is None else one.value, one.tags))
            elif one.value:
                self._counters[one.name].inc(one.value, tags=one.tags)
        self._lasting.hold(group, settings)
