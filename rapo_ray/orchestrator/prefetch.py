"""Which round is drawn when: one after the other, or the next one while the policy learns from this one.

A round is drawn with one version of the weights: they change between two rounds, never within one. So a round that was
drawn ahead is one version behind, no more, and a run repeats exactly.
"""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from rapo_ray.errors import RoundLost
from rapo_ray.roles import Judged
from rapo_ray.types import Group

log = logging.getLogger(__name__)

Draw = Callable[[int, Judged], tuple[Group, ...]]


@dataclass(frozen=True, slots=True)
class Drawn:
    """A round's completions and verdicts, and the weights that made them."""

    groups_P: tuple[Group, ...]
    version: int
    seconds: float


class Ahead:
    """Draws rounds in their order; `may_begin` says which may be drawn before the one before them is learned."""

    def __init__(self, draw: Draw, may_begin: Callable[[int], bool]) -> None:
        self._draw = draw
        self._may_begin = may_begin
        self._begun: Future[Drawn] | None = None

    def take(self, number: int, judged: Judged) -> Drawn:
        """Round `number`: what was drawn ahead, or drawn now with the weights of the round before."""
        if self._begun is None:
            return self._timed(number, number - 1, judged)
        begun, self._begun = self._begun, None
        return begun.result()

    def begin(self, number: int) -> None:
        """Start to draw round `number`, where that may be, with the weights that the engines still hold."""
        if not self._may_begin(number):
            return
        self._begun = begun = Future[Drawn]()

        def work() -> None:
            try:
                begun.set_result(self._timed(number, number - 2, lambda done, total: None))
            except BaseException as error:
                begun.set_exception(error)

        threading.Thread(target=work, name="draw-ahead", daemon=True).start()

    @property
    def in_flight(self) -> bool:
        """True where a round is being drawn or was drawn ahead."""
        return self._begun is not None

    def wait(self) -> None:
        """Until the engines have nothing left to draw; raises what stopped them. A round that lost an engine's weights
        is forgotten: it is drawn anew when its turn comes, with the weights of then.
        """
        if self._begun is None:
            return
        try:
            self._begun.result()
        except RoundLost as error:
            log.warning("the round that was being drawn ahead is drawn anew: %s", error)
            self._begun = None

    def _timed(self, number: int, version: int, judged: Judged) -> Drawn:
        started = time.monotonic()
        groups_P = self._draw(number, judged)
        return Drawn(groups_P, version, time.monotonic() - started)
