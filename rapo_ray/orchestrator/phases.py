"""Seconds of each phase of a round."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Phases:
    """Times phases by name, and reports the start of each."""

    def __init__(self, begins: Callable[[str], None] = lambda name: None) -> None:
        self.seconds: dict[str, float] = {}
        self._begins = begins

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time the body under `name`; a repeated name adds up."""
        name = str(name)  # of a Phase, its plain text
        self._begins(name)
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - started
