"""Persistent state of an endpoint: its settings and the history of its weights, shared by the commands."""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import yaml

from rapo_ray.atomic import write_text_atomically
from rapo_ray.config.serving import ServeConfig
from rapo_ray.errors import ConfigError
from rapo_ray.serving.versions import Serving
from rapo_ray.text.lines import split_lines


@dataclass(frozen=True, slots=True)
class Change:
    """One line of the history: the weights that were served from a time on, and the action that changed them."""

    at: str
    action: str  # serve, promote, follow or rollback
    model: str
    serving: Serving


class State:
    """The settings and the history of an endpoint, in one folder."""

    def __init__(self, folder: Path) -> None:
        self._settings = folder / "serving.yaml"
        self._history = folder / "history.jsonl"
        self._folder = folder

    def settings(self) -> ServeConfig:
        """Settings of the running endpoint; raises ConfigError where there is none."""
        try:
            return ServeConfig.model_validate(yaml.safe_load(self._settings.read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise ConfigError(
                f"{self._folder} holds no endpoint: start one with `python -m rapo_ray.serve`, or name its --state"
            ) from None

    def save(self, config: ServeConfig) -> None:
        """Write the settings."""
        self._folder.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
        write_text_atomically(self._settings, text)

    def history(self) -> list[Change]:
        """All changes, oldest first."""
        if not self._history.exists():
            return []
        rows = [json.loads(line) for line in split_lines(self._history.read_text(encoding="utf-8"))]
        return [Change(row["at"], row["action"], row["model"], Serving.from_json(row["serving"])) for row in rows]

    def add(self, action: str, model: Path, serving: Serving) -> None:
        """Append a change to the history."""
        change = Change(datetime.now(UTC).isoformat(timespec="seconds"), action, str(model), serving)
        with self._history.open("a", encoding="utf-8") as out:
            out.write(json.dumps(asdict(change)) + "\n")


def previous(history: list[Change]) -> Change:
    """The last change to weights other than the current ones; raises ConfigError where there is none."""
    if history:
        current = history[-1].serving.id
        for change in reversed(history):
            if change.serving.id != current:
                return change
    raise ConfigError("there is nothing to roll back to: no other weights were served before")
