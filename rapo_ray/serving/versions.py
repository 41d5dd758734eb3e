"""The version of the weights that an endpoint serves."""

from dataclasses import asdict, dataclass
from typing import Any

from rapo_ray.models.published import Published


@dataclass(frozen=True, slots=True)
class Serving:
    """A version of the model, and the Serve application that runs its engines."""

    app: str
    name: str  # of the model for callers
    run: str
    version: int
    checksum: str
    system_prompt: str | None

    @property
    def id(self) -> str:
        """Run, version and checksum in one word."""
        return f"{self.run}-v{self.version}-{self.checksum[:12]}"

    def headers(self) -> dict[str, str]:
        """The headers of every answer."""
        return {"x-rapo-weights-version": str(self.version), "x-rapo-weights-checksum": self.checksum}

    def as_user_config(self) -> dict[str, Any]:
        """The version as Serve's user config, which running replicas receive."""
        return asdict(self)


def serving_of(published: Published, name: str | None, app: str | None = None) -> Serving:
    """The version for a published model, under a given or derived model name and application name."""
    return Serving(
        app or f"rapo-model-{published.id}",
        name or published.run,
        published.run,
        published.version,
        published.checksum,
        published.system_prompt,
    )
