"""Weight sync from the policy to every engine: pause, transfer, check the version, resume, always in this order.

An engine pauses when a transfer to it begins, and resumes at its end if it holds the version that it was sent
(actors/rollout.py): the driver sends it nothing else.
"""

from collections.abc import Callable
from typing import Protocol

from rapo_ray.errors import ActorDied


class Sender(Protocol):
    """The policy's side."""

    @property
    def can_resend(self) -> bool:
        """False where a failed transfer leaves ranks waiting for each other."""
        ...

    def send_weights(self, version: int) -> None:
        """Send every weight as `version`."""
        ...

    def resend(self, engine: int) -> None:
        """Send a restarted engine the weights that the others have; raises RoundLost."""
        ...


class Receivers(Protocol):
    """The engines' side."""

    version: int
    restore_weights: Callable[[int], None]

    def restart_all(self, why: str) -> bool:
        """Restart all engines, without weights, where one is dead; False where none is."""
        ...


class PolicyToEngines:
    """Gives a policy's weights to engines."""

    def __init__(self, policy: Sender, engines: Receivers) -> None:
        self._policy = policy
        self._engines = engines
        engines.restore_weights = policy.resend

    def sync(self, version: int) -> None:
        """Give every engine the policy's weights; an engine for which that fails stays paused, as half-loaded weights
        must not generate. Where an engine dies meanwhile, all are restarted and the weights are sent once more. Raises
        EngineError where an engine holds another version afterwards, and ActorDied past the restarts.
        """
        while True:
            try:
                self._policy.send_weights(version)
                break
            except ActorDied as error:
                if not (self._policy.can_resend and self._engines.restart_all(str(error))):
                    raise
        self._engines.version = version
