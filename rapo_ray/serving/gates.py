"""The gate result of published weights, from the evaluations of their run."""

import json
from dataclasses import dataclass
from pathlib import Path

from rapo_ray.errors import ServingError
from rapo_ray.models.folder import fingerprint
from rapo_ray.models.published import Published


@dataclass(frozen=True, slots=True)
class GateResult:
    """The file and the content of a gate's result."""

    path: Path
    passed: bool
    reasons: list[str]


def check_gate(published: Published) -> GateResult:
    """The gate result of weights that passed; raises ServingError where they failed or were not evaluated."""
    gate = gate_of(published)
    if gate is None:
        raise ServingError(
            f"no gate was judged for {published.id}: "
            f"run `python -m rapo_ray.evaluate --model {published.folder.parent} gates.asr=...`"
        )
    if not gate.passed:
        raise ServingError(f"{published.id} did not pass its gate ({gate.path}): {'; '.join(gate.reasons)}")
    return gate


def gate_of(published: Published) -> GateResult | None:
    """The latest gate result of exactly these weights, from the evaluations in their run's folder, or None."""
    paths = []
    for path in published.folder.parent.glob("evaluations/*/gate.json"):
        evaluated = _evaluated(path.parent)
        if evaluated in (f"round-{published.version}", fingerprint(published.folder)):
            paths.append(path)
    if not paths:
        return None
    newest = max(paths, key=lambda path: path.stat().st_mtime_ns)
    gate = json.loads(newest.read_text(encoding="utf-8"))
    reasons = [f"{check['metric']}: {check['why']}" for check in gate["checks"] if check["verdict"] != "pass"]
    return GateResult(newest, bool(gate["passed"]), reasons)


def _evaluated(folder: Path) -> str | None:
    """Revision of the model that an evaluation's gate applies to, or None."""
    try:
        results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        gate = json.loads((folder / "gate.json").read_text(encoding="utf-8"))
        return str(results["models"][gate["model"]]["revision"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
