"""A run on disk: its lock, its resolved config, and records that go back to the last checkpoint on resume."""

import fcntl
import json
import os
import re
import shutil
from pathlib import Path
from typing import IO, Any

from rapo_ray.atomic import write_json_atomically, write_text_atomically
from rapo_ray.config import RunConfig
from rapo_ray.config.load import hashed_tree, load_config, to_yaml
from rapo_ray.errors import ConfigError
from rapo_ray.storage.records import write_parquet
from rapo_ray.types import RoundResult

REPORT = "report.html"
ROUND_FILE = re.compile(r"round-(\d{6,})\.parquet(\.tmp)?")


class RunFolder:
    """Paths and records of one run; a second process on the same run is refused."""

    def __init__(self, config: RunConfig) -> None:
        self.path = config.folder
        self.rounds = self.path / "rounds"
        self.heldout = self.path / "heldout"
        self.checkpoints = self.path / "checkpoints"
        self.sft = self.path / "sft"
        self.model = self.path / "model"
        self.summary = self.path / "summary.json"
        self._metrics = self.path / "metrics.jsonl"
        self._canaries = self.path / "canaries.jsonl"
        self._config = config
        self._lock: IO[str] | None = None

    def open(self) -> None:
        """Take the lock and write the config; raises ConfigError where it is held, or another config was used."""
        for folder in (self.path, self.rounds, self.heldout, self.checkpoints):
            folder.mkdir(parents=True, exist_ok=True)
        self._lock = (self.path / ".lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"{self.path}: another process is running this run; wait for it or change `name`"
            ) from None
        written = self.path / "config.yaml"
        if written.exists():
            try:
                self._check_same(load_config(str(written)))
            except ConfigError:
                self.close()
                raise
        write_text_atomically(written, to_yaml(self._config))

    def close(self) -> None:
        """Give the lock back."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def finished(self) -> dict[str, Any] | None:
        """The summary of a finished run, else None."""
        if not self.summary.exists():
            return None
        summary: dict[str, Any] = json.loads(self.summary.read_text(encoding="utf-8"))
        return summary

    def forget_after(self, round_number: int) -> None:
        """Drop the records of later rounds; they will be made again, the same."""
        for path in (self._metrics, self._canaries):
            if path.exists():
                lines = path.read_text(encoding="utf-8").splitlines()
                kept = [line for line in lines if _round_of(line) <= round_number]
                write_text_atomically(path, "".join(f"{line}\n" for line in kept))
        for path in self.rounds.glob("round-*"):
            match = ROUND_FILE.fullmatch(path.name)
            if match and int(match[1]) > round_number:
                path.unlink()

    def record(self, result: RoundResult, line: dict[str, Any]) -> None:
        """Keep a round's rows and its line of metrics."""
        write_parquet(result.groups_P, self.rounds / f"round-{result.round_number:06d}.parquet")
        _append(self._metrics, line)

    def record_contamination(self, rows: list[dict[str, str]]) -> None:
        """Write what the contamination guard found; the file is there, and empty, where it found nothing."""
        write_text_atomically(self.path / "contamination.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows))

    def record_canaries(self, line: dict[str, Any]) -> None:
        """Keep what a measurement of the judge found."""
        _append(self._canaries, line)

    def publish_summary(self, summary: dict[str, Any]) -> None:
        """Write the summary, whole."""
        write_json_atomically(self.summary, summary)

    def clear_partial(self, folder: Path) -> Path:
        """An empty folder beside `folder` to fill and then rename to it."""
        temporary = folder.with_name(f"{folder.name}.tmp")
        if temporary.exists():
            shutil.rmtree(temporary)
        return temporary

    def _check_same(self, before: RunConfig) -> None:
        changed = sorted(_differences(hashed_tree(before), hashed_tree(self._config)))
        if changed:
            raise ConfigError(
                f"{self.path} was started with another config (changed: {', '.join(changed)}): "
                "change `name` for a new run, or remove the folder"
            )


def _differences(before: dict[str, Any], after: dict[str, Any], prefix: str = "") -> set[str]:
    keys: set[str] = set()
    for name in before.keys() | after.keys():
        old, new = before.get(name), after.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            keys |= _differences(old, new, f"{prefix}{name}.")
        elif old != new:
            keys.add(f"{prefix}{name}")
    return keys


def _round_of(line: str) -> float:
    try:
        return float(json.loads(line)["round"])
    except (ValueError, KeyError, TypeError):
        return float("inf")  # the torn last line of a killed run


def _append(path: Path, line: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as out:
        out.write(json.dumps(line) + "\n")
        out.flush()
        os.fsync(out.fileno())
