"""Weights from the policy to every engine: pause, transfer, version, resume, in this order and no other."""

from typing import Protocol

from rapo_ray.errors import EngineError


class Sender(Protocol):
    """The policy's side."""

    def send_weights(self, version: int) -> None:
        """Send every weight under `version`."""
        ...


class Receivers(Protocol):
    """The engines' side."""

    def pause(self) -> None:
        """Stop stepping."""
        ...

    def resume(self) -> None:
        """Step again."""
        ...

    def weight_versions(self) -> list[str]:
        """The version each engine reports."""
        ...


class PolicyToEngines:
    """Syncs a policy's weights to all engines."""

    def __init__(self, policy: Sender, engines: Receivers) -> None:
        self._policy = policy
        self._engines = engines

    def sync(self, version: int) -> None:
        """Give every engine the policy's weights; engines stay paused where it fails, for half-loaded weights must not
        generate. Raises EngineError where an engine reports another version afterwards.
        """
        self._engines.pause()
        self._policy.send_weights(version)
        versions = self._engines.weight_versions()
        if wrong := [f"engine {index} has {found}" for index, found in enumerate(versions) if found != str(version)]:
            raise EngineError(f"after the sync of weights version {version}: {', '.join(wrong)}")
        self._engines.resume()
