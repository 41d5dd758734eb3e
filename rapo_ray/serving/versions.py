"""Which weights an endpoint answers with."""

from dataclasses import asdict, dataclass
from typing import Any

from rapo_ray.models.published import Published


@dataclass(frozen=True, slots=True)
class Serving:
    """One version of the model, and the Serve application in which its engines run."""

    app: str
    name: str  # what callers name the model
    run: str
    version: int
    checksum: str
    system_prompt: str | None

    @property
    def id(self) -> str:
        """Run, version and checksum in one word."""
        return f"{self.run}-v{self.version}-{self.checksum[:12]}"

    def headers(self) -> dict[str, str]:
        """What every answer carries."""
        return {"x-rapo-weights-version": str(self.version), "x-rapo-weights-checksum": self.checksum}

    def as_user_config(self) -> dict[str, Any]:
        """For Serve, which hands it to running replicas."""
        return asdict(self)


def serving_of(published: Published, name: str | None, app: str | None = None) -> Serving:
    """How a published model is served."""
    return Serving(
        app or f"rapo-model-{published.id}",
        name or published.run,
        published.run,
        published.version,
        published.checksum,
        published.system_prompt,
    )
