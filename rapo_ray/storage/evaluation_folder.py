"""Files of a finished evaluation."""

from collections.abc import Sequence
from pathlib import Path

from rapo_ray.atomic import write_json_atomically
from rapo_ray.evaluation.results import Evaluated, Results
from rapo_ray.evaluation.rows import EvalRow
from rapo_ray.storage.json_records import to_json
from rapo_ray.storage.layout import EvaluationLayout
from rapo_ray.storage.rows import write_rows


def write_results(results: Results, models: Sequence[Evaluated], folder: Path) -> None:
    """Write rows.parquet, results.json and, where there is a gate, gate.json, each atomically."""
    layout = EvaluationLayout(folder)
    write_rows(EvalRow, [row for one in models for row in one.rows], layout.rows)
    write_json_atomically(layout.results, to_json(results))
    if results.gate is not None:
        write_json_atomically(layout.gate, to_json(results.gate))
