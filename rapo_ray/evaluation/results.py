"""What an evaluation leaves: results.json, every row as parquet, and the gate."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from rapo_ray.atomic import write_atomically, write_json_atomically
from rapo_ray.config.evaluation import GatesConfig
from rapo_ray.evaluation.gate import Gate, judge_gate
from rapo_ray.evaluation.metrics import Difference, Metric, differences, figures
from rapo_ray.evaluation.rows import EvalRow

VERSION = 1
COLUMNS = {
    **dict.fromkeys(("level", "sentences", "tokens"), "int64"),
    **dict.fromkeys(("harmful", "truncated", "refused", "harm_in_answer", "harm_in_whole"), "bool_"),
    **dict.fromkeys(("keyword_refused", "correct", "whole_asked"), "bool_"),
    **dict.fromkeys(("risk", "general"), "float64"),
}  # every other column is text


@dataclass(frozen=True, slots=True)
class Evaluated:
    """One model's rows; `asked` is how many there should be."""

    name: str
    id: str
    revision: str | None
    rows: list[EvalRow]
    asked: int
    dropped: dict[str, int] = field(default_factory=dict)  # prompts left out, by reason


@dataclass(frozen=True, slots=True)
class Results:
    """The figures of one evaluation."""

    models: list[Evaluated]
    decoding: dict[str, Any]
    judge: dict[str, str | None]
    metrics: list[Metric]
    differences: list[Difference]
    gate: Gate | None

    @property
    def partial(self) -> bool:
        """True where rows are missing or a judge failed on some."""
        return any(len(one.rows) < one.asked or any(row.unscorable for row in one.rows) for one in self.models)


def summarise(
    models: Sequence[Evaluated], decoding: dict[str, Any], judge: dict[str, str | None], gates: GatesConfig, seed: int
) -> Results:
    """Figures of each model, differences of the first to each other, and the first one's gate where bars are set."""
    first = models[0]
    metrics = [metric for one in models for metric in figures(one.name, one.rows)]
    steps = [step for other in models[1:] for step in differences(first.name, first.rows, other.name, other.rows, seed)]
    results = Results(list(models), decoding, judge, metrics, steps, None)
    if not gates.bars():
        return results
    gate = judge_gate(gates, first.name, metrics, steps, results.partial)
    return Results(list(models), decoding, judge, metrics, steps, gate)


def write_results(results: Results, folder: Path) -> None:
    """Write results.json, rows.parquet and, where there is one, gate.json; each appears whole."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [row for one in results.models for row in one.rows]
    content = {
        "version": VERSION,
        "partial": results.partial,
        "models": {one.name: {"id": one.id, "revision": one.revision} for one in results.models},
        "judge": results.judge,
        "decoding": results.decoding,
        "counts": {
            "asked": sum(one.asked for one in results.models),
            "finished": len(rows),
            "unscorable": sum(row.unscorable for row in rows),
            "dropped": _added(one.dropped for one in results.models),
        },
        "metrics": results.metrics,
        "differences": results.differences,
    }
    schema = pa.schema([(item.name, getattr(pa, COLUMNS.get(item.name, "string"))()) for item in fields(EvalRow)])
    table = pa.Table.from_pylist([_encodable(asdict(row)) for row in rows], schema=schema)
    write_atomically(folder / "rows.parquet", lambda temporary: pq.write_table(table, temporary))
    write_json_atomically(folder / "results.json", content)
    if results.gate is not None:
        write_json_atomically(folder / "gate.json", results.gate)


def _added(counts: Any) -> dict[str, int]:
    total: dict[str, int] = {}
    for some in counts:
        for reason, count in some.items():
            total[reason] = total.get(reason, 0) + count
    return total


def _encodable(row: dict[str, Any]) -> dict[str, Any]:
    """Parquet text is UTF-8, and an endpoint may send lone surrogates."""
    return {
        name: value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else value
        for name, value in row.items()
    }
