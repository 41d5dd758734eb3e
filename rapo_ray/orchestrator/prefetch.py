"""The source of a run's rollouts: a round at a time, or the next round beside the update of this one.

A round is collected with one version of the weights: they change between two rounds, never within one. So a prefetched
round is one version behind, no more, and a run repeats exactly.
"""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from rapo_ray.errors import RoundLost
from rapo_ray.orchestrator.collect import RoundCollector
from rapo_ray.roles import Judged, PromptSource
from rapo_ray.types import Group, Prompt

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RolloutBatch:
    """A round's completions and verdicts, and the weights that made them."""

    groups_P: tuple[Group, ...]
    version: int
    seconds: float


class RolloutPrefetcher:
    """Yields the rounds of a run in their order.

    `may_prefetch(n)` says whether round n may be collected before the policy has learned from round n - 1.
    """

    def __init__(self, prompts: PromptSource, collector: RoundCollector, may_prefetch: Callable[[int], bool]) -> None:
        self._source = prompts
        self._collector = collector
        self._may_prefetch = may_prefetch
        self._prompts_P: dict[int, list[Prompt]] = {}  # of rounds not yet taken: a lost one is collected a second time
        self._prefetch: Future[RolloutBatch] | None = None

    def take(self, number: int, judged: Judged) -> RolloutBatch:
        """Round `number`: prefetched, or collected now with the weights of the round before."""
        prefetch, self._prefetch = self._prefetch, None
        batch = prefetch.result() if prefetch is not None else self._collect(number, number - 1, judged)
        del self._prompts_P[number]
        return batch

    def prefetch(self, number: int) -> None:
        """Start to collect round `number`, where that is allowed, with the weights that the engines still hold."""
        if not self._may_prefetch(number):
            return
        self._choose_prompts(number)  # now: what the source learns from the round before would come at any moment
        self._prefetch = prefetch = Future[RolloutBatch]()

        def work() -> None:
            try:
                prefetch.set_result(self._collect(number, number - 2, lambda done, total: None))
            except BaseException as error:
                prefetch.set_exception(error)

        threading.Thread(target=work, name="prefetch", daemon=True).start()

    @property
    def in_flight(self) -> bool:
        """True while a prefetched round has not been taken."""
        return self._prefetch is not None

    def wait(self) -> None:
        """Wait until the engines are idle; raises what stopped them. A round that lost an engine's weights is dropped,
        and collected again with the weights of its turn.
        """
        if self._prefetch is None:
            return
        try:
            self._prefetch.result()
        except RoundLost as error:
            log.warning("the prefetched round is resampled: %s", error)
            self._prefetch = None

    def _collect(self, number: int, version: int, judged: Judged) -> RolloutBatch:
        started = time.monotonic()
        self._choose_prompts(number)
        groups_P = self._collector.collect(self._prompts_P[number], number, judged)
        return RolloutBatch(groups_P, version, time.monotonic() - started)

    def _choose_prompts(self, number: int) -> None:
        if number not in self._prompts_P:
            self._prompts_P[number] = self._source.next_batch(number)
