"""Weights from the policy to every engine: pause, transfer, version, resume, in this order and no other.

An engine pauses when a transfer to it begins, and at its end steps again if it holds the version that it was sent
(actors/rollout.py): the driver has nothing to say to it.
"""

from collections.abc import Callable
from typing import Protocol

from rapo_ray.errors import ActorDied


class Sender(Protocol):
    """The policy's side."""

    @property
    def can_resend(self) -> bool:
        """False where a transfer that failed leaves ranks that wait for each other."""
        ...

    def send_weights(self, version: int) -> None:
        """Send every weight as `version`."""
        ...

    def resend(self, engine: int) -> None:
        """Send the weights that all engines have to one of them."""
        ...


class Receivers(Protocol):
    """The engines' side."""

    version: int
    restore_weights: Callable[[int], None]

    def restart_all(self, why: str) -> bool:
        """Start all engines again, without weights, where one is dead; False where none is."""
        ...


class PolicyToEngines:
    """Gives a policy's weights to engines."""

    def __init__(self, policy: Sender, engines: Receivers) -> None:
        self._policy = policy
        self._engines = engines
        engines.restore_weights = self.give

    def sync(self, version: int) -> None:
        """Give every engine the policy's weights; an engine for which it fails stays paused, for half-loaded weights
        must not generate. Where one dies over it, all are started again, and sent to once more. Raises EngineError
        where an engine holds another version afterwards, and ActorDied past the restarts.
        """
        while True:
            try:
                self._policy.send_weights(version)
                break
            except ActorDied as error:
                if not (self._policy.can_resend and self._engines.restart_all(str(error))):
                    raise
        self._engines.version = version

    def give(self, engine: int) -> None:
        """Give an engine that was started again the weights that the others have; raises RoundLost."""
        self._policy.resend(engine)
