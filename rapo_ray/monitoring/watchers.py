"""Ray's metrics and the sinks, which get a run's figures beside its folder; the run never waits for a sink."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from importlib import import_module
from queue import SimpleQueue
from typing import Any

from rapo_ray import console
from rapo_ray.config import RunConfig
from rapo_ray.config.alarms import AlarmName
from rapo_ray.judging.canaries import CanaryReport
from rapo_ray.monitoring.exporter import Exporter
from rapo_ray.monitoring.sinks import Figures, Load, Sink, flatten, one_line, open_sinks
from rapo_ray.storage.metrics import RoundMetrics

LAST_WAIT = 15.0  # seconds, at the end of a run, for a sink that is slow
Say = Callable[[str], None]


class Delivery:
    """Writes to one sink in a thread of its own: a slow or unreachable one costs the run one line of warning."""

    def __init__(self, name: str, sink: Sink, say: Say) -> None:
        self._name = name
        self._sink = sink
        self._say = say
        self._warned = False
        self._queue: SimpleQueue[tuple[int, Figures] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=f"sink-{name}", daemon=True)
        self._thread.start()

    def put(self, number: int, figures: Figures) -> None:
        """Queue the figures of a round; returns at once."""
        self._queue.put((number, figures))

    def close(self, seconds: float) -> None:
        """Write the rest, for at most so long."""
        self._queue.put(None)
        self._thread.join(seconds)
        if self._thread.is_alive():
            self._say(f"warning: sinks.{self._name}: not done after {seconds:g} s, the last figures may be missing")

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            self._try(self._sink.write, *item)
        self._try(self._sink.close)

    def _try(self, call: Callable[..., None], *arguments: Any) -> None:
        try:
            call(*arguments)
        except Exception as error:
            if not self._warned:
                self._say(f"warning: sinks.{self._name} lost figures, the run goes on: {one_line(error)}")
            self._warned = True


class Watchers:
    """Receivers of one run's figures; raises ConfigError where a configured sink cannot be opened."""

    exported: Exporter

    def __init__(self, config: RunConfig, say: Say = console.say, load: Load = import_module) -> None:
        self._config = config
        self._deliveries = [Delivery(name, sink, say) for name, sink in open_sinks(config, load)]

    @contextmanager
    def exporting(self) -> Iterator[None]:
        """Export metrics of Ray within the body; the cluster is joined before it and left after it."""
        self.exported = Exporter(self._config.name, self._config.rounds)
        try:
            yield
        finally:
            self.exported.close()

    def round(self, metrics: RoundMetrics) -> None:
        """Pass on the metrics of a finished round."""
        self.exported.round(metrics)
        self._deliver(metrics.round, flatten(asdict(metrics)))

    def canaries(self, number: int, report: CanaryReport, canaries: int) -> None:
        """Pass on the judge's rates before a round, on so many canaries."""
        self.exported.canaries(report, canaries)
        self._deliver(number, flatten({"canaries": asdict(report)}))

    def traces(self, prompts: str, shares: Mapping[str, float | None], accuracy: float | None) -> None:
        """Export a measurement's shares of answers that follow swapped traces, and the monitor's accuracy."""
        self.exported.traces(prompts, shares, accuracy)

    def alarms(self, number: int, watched: Mapping[AlarmName, bool]) -> None:
        """Pass on the alarms that are not off, and if each is active, after a round."""
        self.exported.alarms(watched)
        self._deliver(number, {f"alarms/{name}": float(active) for name, active in watched.items()})

    def close(self) -> None:
        """Close the sinks."""
        for delivery in self._deliveries:
            delivery.close(LAST_WAIT)

    def _deliver(self, number: int, figures: Figures) -> None:
        for delivery in self._deliveries:
            delivery.put(number, figures)
