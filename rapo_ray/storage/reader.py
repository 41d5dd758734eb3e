"""What a run's or an evaluation's folder holds, as far as it is there."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rapo_ray.config import RunConfig
from rapo_ray.config.load import load_config
from rapo_ray.errors import ConfigError, RapoError, ReportError
from rapo_ray.evaluation.metrics import Difference, Metric
from rapo_ray.storage.records import read_groups
from rapo_ray.storage.run_folder import ROUND_FILE
from rapo_ray.types import Group

STAGES = ("base", "sft", "rapo")
ROUND_PREFIX = "round-"  # of the folders of evaluations that a run makes of itself

Line = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What one evaluation left; `round_number` is None where no run made it of itself."""

    name: str
    round_number: int | None
    results: Line
    gate: Line | None
    rows: Path | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that a report is made of; what the folder lacks is empty or None."""

    path: Path
    config: RunConfig | None = None  # None for the folder of an evaluation
    metrics: Sequence[Line] = ()
    canaries: Sequence[Line] = ()
    heldout: dict[str, list[Group]] = field(default_factory=dict)
    rounds: dict[int, Path] = field(default_factory=dict)
    evaluations: Sequence[Evaluation] = ()  # by round, then the others by name
    summary: Line | None = None
    intervention: Line | None = None
    written: datetime | None = None  # when the newest of the results was

    @property
    def evaluations_of_rounds(self) -> list[Evaluation]:
        """Those that the run made of itself."""
        return [one for one in self.evaluations if one.round_number is not None]

    @property
    def last_evaluation(self) -> Evaluation | None:
        """The one that speaks for the run: of its last evaluated round, else the last by name."""
        return next(iter(self.evaluations_of_rounds[-1:] or self.evaluations[-1:]), None)


def read_evidence(folder: Path) -> Evidence:
    """Read a run's or an evaluation's folder; raises ReportError for one that is neither, or is broken."""
    if (folder / "config.yaml").is_file():
        return _read_run(folder)
    if (folder / "results.json").is_file():
        return Evidence(folder, evaluations=[read_evaluation(folder)], written=_written([folder / "results.json"]))
    raise ReportError(f"{folder}: neither config.yaml (of a run) nor results.json (of an evaluation) is in it")


def _read_run(folder: Path) -> Evidence:
    evaluations = [read_evaluation(path.parent) for path in sorted(folder.glob("evaluations/*/results.json"))]
    heldout = {}
    for stage in STAGES:
        path = folder / "heldout" / f"{stage}.parquet"
        if path.is_file():
            with reading(path):
                heldout[stage] = read_groups(path)
    results = [folder / "metrics.jsonl", folder / "summary.json", *folder.glob("evaluations/*/results.json")]
    summary, study = folder / "summary.json", folder / "intervention" / "intervention.json"
    return Evidence(
        path=folder,
        config=read_config(folder / "config.yaml"),
        metrics=read_lines(folder / "metrics.jsonl"),
        canaries=read_lines(folder / "canaries.jsonl"),
        heldout=heldout,
        rounds=round_files(folder / "rounds"),
        evaluations=sorted(evaluations, key=lambda one: (one.round_number is None, one.round_number or 0, one.name)),
        summary=read_object(summary) if summary.is_file() else None,
        intervention=read_object(study) if study.is_file() else None,
        written=_written([path for path in results if path.is_file()] or [folder / "config.yaml"]),
    )


def read_config(path: Path) -> RunConfig:
    """The config of a run; raises ReportError."""
    try:
        return load_config(str(path))
    except ConfigError as error:
        raise ReportError(str(error)) from error


def round_files(folder: Path) -> dict[int, Path]:
    """The rows of each recorded round, in order."""
    found = {}
    for path in folder.glob("round-*.parquet"):
        if match := ROUND_FILE.fullmatch(path.name):
            found[int(match[1])] = path
    return dict(sorted(found.items()))


def read_evaluation(folder: Path) -> Evaluation:
    """An evaluation's folder; raises ReportError."""
    results = read_object(folder / "results.json")
    models, metrics, steps = (results.get(name) for name in ("models", "metrics", "differences"))
    if not (models and isinstance(models, dict) and _are(Metric, metrics) and _are(Difference, steps)):
        raise ReportError(f"{folder / 'results.json'}: models, metrics and differences are not those of an evaluation")
    number = folder.name.removeprefix(ROUND_PREFIX)
    gate, rows = folder / "gate.json", folder / "rows.parquet"
    return Evaluation(
        folder.name,
        int(number) if folder.name.startswith(ROUND_PREFIX) and number.isdecimal() else None,
        results,
        read_object(gate) if gate.is_file() else None,
        rows if rows.is_file() else None,
    )


def _are(kind: Any, content: Any) -> bool:
    keys = kind.__required_keys__
    return isinstance(content, list) and all(isinstance(one, dict) and keys <= one.keys() for one in content)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """What the content of a file makes go wrong is a ReportError that names the file."""
    try:
        yield
    except RapoError:
        raise
    except (ValueError, KeyError, TypeError) as error:  # JSON, UTF-8 and parquet errors are ValueErrors
        raise ReportError(f"{path}: cannot be read ({' '.join(str(error).split())[:200]}): make it anew") from error


def read_object(path: Path) -> Line:
    """A file of one JSON object; raises ReportError."""
    with reading(path):
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"holds {type(content).__name__}, not an object")
        return content


def read_lines(path: Path) -> list[Line]:
    """The lines that name their round; the torn last one of a run that was killed, or still writes, is left out."""
    if not path.is_file():
        return []
    found = []
    with reading(path):
        lines = path.read_bytes().split(b"\n")
        for line in lines[:-1]:
            content = json.loads(line)
            if not isinstance(content, dict) or not isinstance(content.get("round"), int):
                raise ValueError("a line without its round")
            found.append(content)
    return sorted(found, key=lambda line: line["round"])


def _written(paths: Sequence[Path]) -> datetime:
    return datetime.fromtimestamp(max(path.stat().st_mtime for path in paths), UTC)


def pick(line: Line | None, *keys: str) -> Any:
    """What stands at `keys` in nested objects; None where any of them is missing."""
    value: Any = line
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value
