"""The gate result of published weights, from the evaluations of their run."""

from dataclasses import dataclass
from pathlib import Path

from rapo_ray.errors import ReportError, ServingError
from rapo_ray.evaluation.gate import Gate
from rapo_ray.models.folder import fingerprint
from rapo_ray.models.published import Published
from rapo_ray.storage.layout import EvaluationLayout, RunLayout
from rapo_ray.storage.reader import read_evaluation


@dataclass(frozen=True, slots=True)
class GateResult:
    """The file and the content of a gate's result."""

    path: Path
    gate: Gate


def check_gate(published: Published) -> GateResult:
    """The gate result of weights that passed; raises ServingError where they failed or were not evaluated."""
    result = gate_of(published)
    if result is None:
        raise ServingError(
            f"no gate was judged for {published.id}: "
            f"run `python -m rapo_ray.evaluate --model {published.folder.parent} gates.asr=...`"
        )
    if not result.gate.passed:
        reasons = "; ".join(f"{check.metric}: {check.why}" for check in result.gate.checks if check.verdict != "pass")
        raise ServingError(f"{published.id} did not pass its gate ({result.path}): {reasons}")
    return result


def gate_of(published: Published) -> GateResult | None:
    """The latest gate result of exactly these weights, from the evaluations in their run's folder, or None."""
    revisions = (f"round-{published.version}", fingerprint(published.folder))
    judged = []
    for folder in RunLayout(published.folder.parent).evaluations.glob("*/"):
        try:
            results = read_evaluation(folder).results
        except (OSError, ReportError):  # unfinished or broken: no gate of these weights
            continue
        gate = results.gate
        if gate is not None and gate.model in results.models and results.models[gate.model].revision in revisions:
            judged.append(GateResult(EvaluationLayout(folder).gate, gate))
    return max(judged, key=lambda one: one.path.stat().st_mtime_ns, default=None)
