"""The version of the weights that an endpoint serves."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from rapo_ray.config.thinking import ThinkingConfig
from rapo_ray.models.chat import ChatFormat
from rapo_ray.models.chat_template import format_of_folder
from rapo_ray.models.published import MANIFEST, Published


@dataclass(frozen=True, slots=True)
class Serving:
    """A version of the model, and the Serve application that runs its engines."""

    app: str
    name: str  # of the model for callers
    run: str
    version: int
    checksum: str
    system_prompt: str | None
    folder: str  # of the published model
    chat: ChatFormat

    @property
    def id(self) -> str:
        """Run, version and checksum in one word."""
        return f"{self.run}-v{self.version}-{self.checksum[:12]}"

    def headers(self) -> dict[str, str]:
        """The headers of every answer."""
        return {"x-rapo-weights-version": str(self.version), "x-rapo-weights-checksum": self.checksum}

    def card(self) -> dict[str, Any]:
        """The model as `/v1/models` lists it, created when it was published."""
        metadata = {"weights_version": self.version, "checksum": self.checksum, "run": self.run}
        created = int((Path(self.folder) / MANIFEST).stat().st_mtime)
        return {"id": self.name, "object": "model", "created": created, "owned_by": "rapo_ray", "metadata": metadata}

    def to_json(self) -> dict[str, Any]:
        """Content for the ingress and the history."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """The version that `to_json` wrote; a history's older lines have neither folder nor format."""
        chat = ChatFormat.from_json(content.get("chat", {}))
        return cls(**{"folder": "", **content, "chat": chat})


def serving_of(published: Published, name: str | None, app: str | None = None) -> Serving:
    """The version for a published model, under a given or derived model name and application name."""
    return Serving(
        app or f"rapo-model-{published.id}",
        name or published.run,
        published.run,
        published.version,
        published.checksum,
        published.system_prompt,
        str(published.folder),
        chat_of(published),
    )


def chat_of(published: Published) -> ChatFormat:
    """The chat format that a model was published with, or else the one that its template shows; raises ModelError."""
    return published.chat or format_of_folder(published.folder, ThinkingConfig())
