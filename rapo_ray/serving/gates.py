"""Which gate was judged for published weights, if any."""

import json
from dataclasses import dataclass
from pathlib import Path

from rapo_ray.errors import ServingError
from rapo_ray.models.folder import fingerprint
from rapo_ray.models.published import Published


@dataclass(frozen=True, slots=True)
class Judged:
    """A gate's file and what it says."""

    path: Path
    passed: bool
    why: list[str]


def check_gate(published: Published) -> Judged:
    """The gate that these weights passed; raises ServingError where they did not, or none was judged for them."""
    judged = gate_of(published)
    if judged is None:
        raise ServingError(
            f"no gate was judged for {published.id}: "
            f"run `python -m rapo_ray.evaluate --model {published.folder.parent} gates.asr=...`"
        )
    if not judged.passed:
        raise ServingError(f"{published.id} did not pass its gate ({judged.path}): {'; '.join(judged.why)}")
    return judged


def gate_of(published: Published) -> Judged | None:
    """The latest gate of an evaluation of exactly these weights, below the folder of their run."""
    found = []
    for path in published.folder.parent.glob("evaluations/*/gate.json"):
        evaluated = _evaluated(path.parent)
        if evaluated in (f"round-{published.version}", fingerprint(published.folder)):
            found.append(path)
    if not found:
        return None
    newest = max(found, key=lambda path: path.stat().st_mtime_ns)
    gate = json.loads(newest.read_text(encoding="utf-8"))
    why = [f"{check['metric']}: {check['why']}" for check in gate["checks"] if check["verdict"] != "pass"]
    return Judged(newest, bool(gate["passed"]), why)


def _evaluated(folder: Path) -> str | None:
    """The revision of the model that the folder's gate is about."""
    try:
        results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        gate = json.loads((folder / "gate.json").read_text(encoding="utf-8"))
        return str(results["models"][gate["model"]]["revision"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
