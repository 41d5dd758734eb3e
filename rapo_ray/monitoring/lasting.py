"""Gauges that last: Ray drops one that was not set within its last two reports (10 s apart); a round takes minutes."""

import threading
from collections.abc import Iterable
from typing import Any, Protocol

EVERY = 2.0  # seconds; less than any interval between reports that makes sense


class Gauge(Protocol):
    """As in `ray.util.metrics`."""

    def set(self, value: float, tags: Any = None) -> None:
        """Set the value under these tags."""


Setting = tuple[Gauge, float, dict[str, str]]


class Lasting:
    """Sets gauges to their last values again and again, in a thread; a group of them is replaced as a whole."""

    def __init__(self, every: float = EVERY) -> None:
        self._every = every
        self._groups: dict[str, list[Setting]] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._repeat, name="lasting-gauges", daemon=True)
        self._thread.start()

    def hold(self, group: str, settings: Iterable[Setting]) -> None:
        """Set these from now on, in place of the group's earlier ones."""
        with self._lock:
            self._groups[group] = list(settings)
            self._set()

    def close(self) -> None:
        """Stop setting them."""
        self._closed.set()
        self._thread.join()

    def _repeat(self) -> None:
        while not self._closed.wait(self._every):
            with self._lock:
                self._set()

    def _set(self) -> None:
        for settings in self._groups.values():
            for gauge, value, tags in settings:
                gauge.set(value, tags=tags)
