"""The one reader of what runs, evaluations and the judge command leave on disk."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

from rapo_ray.config import RunConfig
from rapo_ray.config.load import load_recorded
from rapo_ray.errors import ConfigError, RapoError, ReportError
from rapo_ray.evaluation.gate import Gate
from rapo_ray.evaluation.intervention import InterventionResults
from rapo_ray.evaluation.results import Results
from rapo_ray.evaluation.rows import TURNS
from rapo_ray.evaluation.swaps import SwapRow
from rapo_ray.storage.json_records import from_json
from rapo_ray.storage.layout import EvaluationLayout, RunLayout, Stage, round_of
from rapo_ray.storage.metrics import CanaryMetrics, RoundMetrics
from rapo_ray.storage.records import AlarmChange, RunSummary, VerdictRow
from rapo_ray.storage.rows import SampleRow, to_groups
from rapo_ray.text.lines import split_lines, whole_lines
from rapo_ray.types import Group, Turn

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One evaluation; `round_number` is None where it was not made during training."""

    name: str
    round_number: int | None
    results: Results
    rows: Path | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that a report is made of; a part that the folder lacks is empty or None."""

    path: Path
    config: RunConfig | None = None  # None for the folder of an evaluation
    metrics: Sequence[RoundMetrics] = ()
    canaries: Sequence[CanaryMetrics] = ()
    alarms: Sequence[AlarmChange] = ()
    heldout: dict[Stage, list[Group]] = field(default_factory=dict)
    swaps: dict[Stage, list[SwapRow]] = field(default_factory=dict)  # of stages whose traces were swapped
    rounds: dict[int, Path] = field(default_factory=dict)
    evaluations: Sequence[Evaluation] = ()  # by round, then the others by name
    summary: RunSummary | None = None
    intervention: InterventionResults | None = None
    written: datetime | None = None  # when the newest of the results was

    @property
    def evaluations_of_rounds(self) -> list[Evaluation]:
        """Evaluations that the run made during training."""
        return [one for one in self.evaluations if one.round_number is not None]

    @property
    def last_evaluation(self) -> Evaluation | None:
        """The evaluation that speaks for the run: of its last evaluated round, else the last by name."""
        return next(iter(self.evaluations_of_rounds[-1:] or self.evaluations[-1:]), None)


def read_evidence(folder: Path) -> Evidence:
    """Read a run's or an evaluation's folder; raises ReportError for one that is neither, or is broken."""
    if RunLayout(folder).config.is_file():
        return _read_run(RunLayout(folder))
    if (results := EvaluationLayout(folder).results).is_file():
        return Evidence(folder, evaluations=[read_evaluation(folder)], written=_written([results]))
    raise ReportError(f"{folder}: neither config.yaml (of a run) nor results.json (of an evaluation) is in it")


def _read_run(run: RunLayout) -> Evidence:
    evaluations = read_evaluations(run)
    stages = {stage: run.heldout_file(stage) for stage in Stage}
    results = [run.metrics, run.summary, *(EvaluationLayout(run.evaluations / one.name).results for one in evaluations)]
    return Evidence(
        path=run.path,
        config=read_config(run.config),
        metrics=read_metrics(run.metrics),
        canaries=sorted(read_lines(CanaryMetrics, run.canaries), key=lambda one: one.round),
        alarms=read_alarms(run.alarms),
        heldout={stage: read_groups(path) for stage, path in stages.items() if path.is_file()},
        swaps={stage: rows for stage in Stage if (rows := read_swaps(run.swaps_file(stage)))},
        rounds=run.round_files(),
        evaluations=evaluations,
        summary=read_optional(RunSummary, run.summary),
        intervention=read_optional(InterventionResults, run.study),
        written=_written([path for path in results if path.is_file()] or [run.config]),
    )


def read_config(path: Path) -> RunConfig:
    """Config of a run, of a later or an earlier version too; raises ReportError."""
    try:
        return load_recorded(path)
    except ConfigError as error:
        raise ReportError(str(error)) from error


def read_metrics(path: Path) -> list[RoundMetrics]:
    """Metrics of the finished rounds, in order; raises ReportError."""
    return sorted(read_lines(RoundMetrics, path), key=lambda one: one.round)


def read_alarms(path: Path) -> list[AlarmChange]:
    """Beginnings and ends of a run's alarms, in order; raises ReportError."""
    return read_lines(AlarmChange, path)


def read_evaluations(run: RunLayout) -> list[Evaluation]:
    """Evaluations of a run: those made during training by round, then the others by name; raises ReportError."""
    folders = [folder for folder in run.evaluations.glob("*/") if EvaluationLayout(folder).results.is_file()]
    evaluations = [read_evaluation(folder) for folder in folders]
    return sorted(evaluations, key=lambda one: (one.round_number is None, one.round_number or 0, one.name))


def read_evaluation(folder: Path) -> Evaluation:
    """Read an evaluation's folder; raises ReportError."""
    layout = EvaluationLayout(folder)
    results = replace(read_object(Results, layout.results), gate=read_optional(Gate, layout.gate))
    return Evaluation(folder.name, round_of(folder.name), results, layout.rows if layout.rows.is_file() else None)


@contextmanager
def reading(place: object) -> Iterator[None]:
    """Turn an error in the content of a file into a ReportError that names the place."""
    try:
        yield
    except RapoError:
        raise
    except (ValueError, KeyError, TypeError) as error:  # JSON, UTF-8 and parquet errors are ValueErrors
        message = " ".join(str(error).split())[:200]
        raise ReportError(f"{place}: cannot be read ({message}): create it again") from error


def read_object(kind: type[T], path: Path) -> T:
    """Record in a JSON file; raises ReportError, or OSError where there is no file."""
    with reading(path):
        return from_json(kind, path.read_bytes())


def read_optional(kind: type[T], path: Path) -> T | None:
    """Record in a JSON file, or None where there is no file; raises ReportError."""
    return read_object(kind, path) if path.is_file() else None


def read_lines(kind: type[T], path: Path) -> list[T]:
    """One record a line, without a torn last line of a run that was killed or still writes; raises ReportError."""
    with reading(path):
        lines = whole_lines(path.read_text(encoding="utf-8")) if path.is_file() else []
    records = []
    for number, line in enumerate(lines, start=1):
        with reading(f"{path}, line {number}"):
            records.append(from_json(kind, line))
    return records


def read_verdicts(path: Path, part: Literal["total", "general"] = "total") -> dict[str, VerdictRow]:
    """Verdicts of the judge command that have this reward, by id, without torn lines; raises ReportError."""
    rows = []
    for line in split_lines(path.read_text(encoding="utf-8")) if path.is_file() else ():
        with reading(path), suppress(json.JSONDecodeError):
            rows.append(from_json(VerdictRow, line))
    return {row.id: row for row in rows if getattr(row, part) is not None}


def read_rows(kind: type[T], path: Path, indexes: Sequence[int] | None = None) -> list[T]:
    """Rows of a parquet file: the columns that are fields of the dataclass `kind`, all rows or those at `indexes`.

    A field whose column the file lacks has its default. Raises ReportError.
    """
    import pyarrow.parquet as pq

    names: list[str] = [one.name for one in fields(kind)]  # type: ignore[arg-type]  # a dataclass
    with reading(path):
        present = set(pq.read_schema(path).names)
        table = pq.read_table(path, columns=[name for name in names if name in present])
        rows: list[dict[str, Any]] = (table if indexes is None else table.take(list(indexes))).to_pylist()
        return [kind(**(row | ({TURNS: _turns(row[TURNS])} if TURNS in row else {}))) for row in rows]


def _turns(cells: list[dict[str, Any]] | None) -> tuple[Turn, ...]:
    return tuple(Turn(**cell) for cell in cells or ())


def read_groups(path: Path) -> list[Group]:
    """Groups of a round or of a held-out measurement, as far as summaries need them; raises ReportError."""
    rows = read_rows(SampleRow, path)
    with reading(path):
        return to_groups(rows)


def read_swaps(path: Path) -> list[SwapRow]:
    """Swapped traces of a measurement; none where there is no file. Raises ReportError."""
    return read_rows(SwapRow, path) if path.is_file() else []


def _written(paths: Sequence[Path]) -> datetime:
    return datetime.fromtimestamp(max(path.stat().st_mtime for path in paths), UTC)
