"""A run's figures as metrics of Ray, which any Prometheus scrapes from the nodes' metrics ports."""

import math
from collections.abc import Iterable, Mapping

from rapo_ray.config.alarms import AlarmName
from rapo_ray.judging.canaries import CanaryReport
from rapo_ray.monitoring.lasting import Lasting
from rapo_ray.monitoring.series import (
    RESTARTS,
    ROUNDS,
    SERIES,
    Series,
    Value,
    alarm_values,
    canary_values,
    trace_values,
    values,
)
from rapo_ray.storage.metrics import RoundMetrics


class Exporter:
    """Exports the series of one run until it is closed."""

    def __init__(self, run: str, rounds: int) -> None:
        from ray.util.metrics import Counter, Gauge

        def tags(series: Series) -> tuple[str, ...]:
            return ("run", *series.tags)

        self._gauges = {one.name: Gauge(one.name, one.help, tags(one)) for one in SERIES if one.kind == "gauge"}
        self._counters = {one.name: Counter(one.name, one.help, tags(one)) for one in SERIES if one.kind == "counter"}
        for metric in (*self._gauges.values(), *self._counters.values()):
            metric.set_default_tags({"run": run})
        self._lasting = Lasting()
        self._set("run", [Value(ROUNDS, rounds, {})])

    def round(self, metrics: RoundMetrics) -> None:
        """Export the metrics of a finished round."""
        self._set("round", values(metrics))

    def canaries(self, report: CanaryReport, canaries: int) -> None:
        """Export the judge's rates on so many canaries."""
        self._set("canaries", canary_values(report, canaries))

    def alarms(self, watched: Mapping[AlarmName, bool]) -> None:
        """Export the alarms that are not off, and if each is active."""
        self._set("alarms", alarm_values(watched))

    def traces(self, prompts: str, shares: Mapping[str, float | None], accuracy: float | None) -> None:
        """Export the causality and the monitorability of traces."""
        self._set(f"traces of {prompts}", trace_values(prompts, shares, accuracy))

    def restarted(self, role: str) -> None:
        """Count the restart of an actor of the role."""
        self._counters[RESTARTS].inc(1, tags={"role": role})

    def close(self) -> None:
        """Stop setting metrics, before Ray shuts down."""
        self._lasting.close()

    def _set(self, group: str, values: Iterable[Value]) -> None:
        settings = []
        for one in values:
            if one.name in self._gauges:  # NaN is a gap, and not the last round's figure
                settings.append((self._gauges[one.name], math.nan if one.value is None else one.value, one.tags))
            elif one.value:
                self._counters[one.name].inc(one.value, tags=one.tags)
        self._lasting.hold(group, settings)
