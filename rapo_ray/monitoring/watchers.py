"""Who is told of a run's figures beside its folder: Ray's metrics, and the sinks, which the run never waits for."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from queue import SimpleQueue
from typing import Any

from rapo_ray import console
from rapo_ray.config import RunConfig
from rapo_ray.monitoring.exporter import Exported
from rapo_ray.monitoring.sinks import Figures, Load, Sink, flatten, one_line, open_sinks

LAST_WAIT = 15.0  # seconds, at the end of a run, for a sink that is slow
Say = Callable[[str], None]


class Delivery:
    """Writes to one sink in a thread of its own: a sink that is slow or lost costs the run one line of warning."""

    def __init__(self, name: str, sink: Sink, say: Say) -> None:
        self._name = name
        self._sink = sink
        self._say = say
        self._warned = False
        self._waiting: SimpleQueue[tuple[int, Figures] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=f"sink-{name}", daemon=True)
        self._thread.start()

    def put(self, number: int, figures: Figures) -> None:
        """Have the figures of a round written; returns at once."""
        self._waiting.put((number, figures))

    def close(self, seconds: float) -> None:
        """Write what is left, for so long."""
        self._waiting.put(None)
        self._thread.join(seconds)
        if self._thread.is_alive():
            self._say(f"warning: sinks.{self._name}: not done after {seconds:g} s, the last figures may be missing")

    def _work(self) -> None:
        while (waiting := self._waiting.get()) is not None:
            self._try(self._sink.write, *waiting)
        self._try(self._sink.close)

    def _try(self, call: Callable[..., None], *arguments: Any) -> None:
        try:
            call(*arguments)
        except Exception as error:
            if not self._warned:
                self._say(f"warning: sinks.{self._name} lost figures, the run goes on: {one_line(error)}")
            self._warned = True


class Watchers:
    """What is told of one run's rounds."""

    exported: Exported

    def __init__(self, config: RunConfig, say: Say = console.say, load: Load = import_module) -> None:
        self._config = config
        self._deliveries = [Delivery(name, sink, say) for name, sink in open_sinks(config, load)]

    @contextmanager
    def exporting(self) -> Iterator[None]:
        """Export metrics of Ray within the body; the cluster is joined before it and left after it."""
        self.exported = Exported(self._config.name, self._config.rounds)
        try:
            yield
        finally:
            self.exported.close()

    def round(self, line: Mapping[str, Any]) -> None:
        """A round ended with this line of metrics."""
        self.exported.round(line)
        self._deliver(line["round"], flatten(line))

    def canaries(self, number: int, found: Mapping[str, Any], asked: int) -> None:
        """The judge was measured before a round, on so many canaries."""
        self.exported.canaries(found, asked)
        self._deliver(number, flatten({"canaries": found}))

    def close(self) -> None:
        """Let the sinks end."""
        for delivery in self._deliveries:
            delivery.close(LAST_WAIT)

    def _deliver(self, number: int, figures: Figures) -> None:
        for delivery in self._deliveries:
            delivery.put(number, figures)


@contextmanager
def watch(config: RunConfig) -> Iterator[Watchers]:
    """Open what the config asks for; raises ConfigError where that cannot be."""
    watchers = Watchers(config)
    try:
        yield watchers
    finally:
        watchers.close()
