"""A run on disk: its lock, its resolved config, and records that go back to the last checkpoint on resume."""

import fcntl
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from rapo_ray.atomic import write_json_atomically, write_text_atomically
from rapo_ray.config import RunConfig
from rapo_ray.config.load import hashed_tree, load_config, to_yaml
from rapo_ray.data.contamination import Hit
from rapo_ray.errors import ConfigError, RapoError
from rapo_ray.judging.canaries import CanaryReport
from rapo_ray.storage.json_records import to_json
from rapo_ray.storage.layout import RunLayout, round_of
from rapo_ray.storage.metrics import CanaryMetrics, RoundMetrics
from rapo_ray.storage.reader import read_optional
from rapo_ray.storage.records import AlarmChange, Failure, LeftOutRow, RunSummary, contamination_row
from rapo_ray.storage.rows import write_groups
from rapo_ray.text.lines import split_lines
from rapo_ray.types import RoundResult

Seconds = dict[str, float]
Digests = dict[str, str]

MOVABLE = ("model.path", "model.revision", "data.sources", "warmup.path")  # where something is, whose content is told


class RunFolder(RunLayout):
    """Lock and records of one run; a second process on the same run is refused."""

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config.folder)
        self._config = config
        self._lock: IO[str] | None = None

    def open(self, content: Mapping[str, str] | None = None) -> None:
        """Take the lock and write the config; raises ConfigError where it is held, or the config has changed.

        `content` has digests of what the config names by path: with them a run may be renamed and its files moved.
        """
        for folder in (self.path, self.rounds, self.heldout, self.checkpoints):
            folder.mkdir(parents=True, exist_ok=True)
        self._lock = self.lock.open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"{self.path}: another process is running this run; wait for it or change `name`"
            ) from None
        if self.config.exists():
            try:
                self._check_same(load_config(str(self.config)), content or {})
            except ConfigError:
                self.close()
                raise
        if not self.summary.is_file():  # a finished run stays as it is
            write_text_atomically(self.config, to_yaml(self._config))
            if content is not None:
                write_json_atomically(self.content, dict(content))
            self.failure.unlink(missing_ok=True)

    def not_applied(self) -> list[str]:
        """Settings of this config that a finished run was made without."""
        before = load_config(str(self.config)).model_dump(mode="json")
        return sorted(_differences(before, self._config.model_dump(mode="json")))

    def close(self) -> None:
        """Release the lock."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def finished(self) -> RunSummary | None:
        """Summary of a finished run, else None; raises ReportError."""
        return read_optional(RunSummary, self.summary)

    def forget_after(self, round_number: int) -> None:
        """Drop the records of later rounds; they will be made again, the same."""
        for path in (self.metrics, self.canaries, self.alarms):
            if path.exists():
                lines = split_lines(path.read_text(encoding="utf-8"))
                write_text_atomically(path, "".join(f"{line}\n" for line in lines if _round_in(line) <= round_number))
        for path in self.rounds.glob("round-*.parquet*"):
            number = round_of(path.name.removesuffix(".tmp").removesuffix(".parquet"))
            if number is not None and number > round_number:
                path.unlink()
        for path in self.evaluations.glob("round-*"):
            if (round_of(path.name) or 0) > round_number:
                shutil.rmtree(path)

    def record(self, result: RoundResult, metrics: RoundMetrics) -> None:
        """Write a round's rows and metrics."""
        write_groups(result.groups_P, self.round_file(result.round_number))
        _append(self.metrics, metrics)

    def record_contamination(self, hits: Iterable[Hit]) -> None:
        """Write the hits of the contamination guard; without any the file exists and is empty."""
        write_text_atomically(self.contamination, "".join(map(_line, map(contamination_row, hits))))

    def record_left_out(self, rows: Iterable[LeftOutRow]) -> None:
        """Write the rows and prompts that the run goes on without; without any the file is empty."""
        write_text_atomically(self.left_out, "".join(map(_line, rows)))

    def record_failure(self, error: BaseException) -> None:
        """Write why this process fails; of an error that is not ours, which may quote texts, only its name."""
        name = type(error).__name__
        ours = isinstance(error, RapoError | OSError)
        reason = (str(error) or name) if ours else f"{name}, an error of the program: see its log"
        write_json_atomically(self.failure, to_json(Failure(" ".join(reason.split()))))

    def earlier_seconds(self) -> Seconds:
        """Seconds of the run's earlier processes, by part."""
        return read_optional(Seconds, self.seconds) or {}

    def record_seconds(self, seconds: Seconds) -> None:
        """Write the seconds of all processes, atomically."""
        write_text_atomically(self.seconds, json.dumps(seconds) + "\n")

    def record_canaries(self, round_number: int, report: CanaryReport) -> None:
        """Write the judge's rates, measured before a round."""
        _append(self.canaries, CanaryMetrics(round=round_number, **asdict(report)))

    def record_alarm(self, change: AlarmChange) -> None:
        """Write that an alarm began or is over."""
        _append(self.alarms, change)

    def publish_summary(self, summary: RunSummary) -> None:
        """Write the summary, atomically."""
        write_json_atomically(self.summary, to_json(summary))

    def clear_partial(self, folder: Path) -> Path:
        """Path beside `folder`, free to be filled and then renamed to it."""
        temporary = folder.with_name(f"{folder.name}.tmp")
        if temporary.exists():
            shutil.rmtree(temporary)
        return temporary

    def _check_same(self, before: RunConfig, content: Mapping[str, str]) -> None:
        recorded = read_optional(Digests, self.content) or {}
        told = self.summary.is_file() or (recorded and content)
        settings = _differences(hashed_tree(before), hashed_tree(self._config)) - {"name"}
        moved = {key for key in settings if told and key.startswith(MOVABLE)}
        other = {f"content of {name}" for name, one in content.items() if recorded.get(name, one) != one}
        changed = sorted(settings - moved | other)
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


def _round_in(line: str) -> float:
    try:
        return float(json.loads(line)["round"])
    except (ValueError, KeyError, TypeError):
        return float("inf")  # the torn last line of a killed run


def _line(record: object) -> str:
    return json.dumps(to_json(record)) + "\n"


def _append(path: Path, record: object) -> None:
    with path.open("a", encoding="utf-8") as out:
        out.write(_line(record))
        out.flush()
        os.fsync(out.fileno())
