"""How a run stands, read from its folder alone: neither Ray nor the run's process is asked."""

import fcntl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rapo_ray.config import RunConfig
from rapo_ray.errors import ReportError
from rapo_ray.storage.checkpoint import MARK, NAME
from rapo_ray.storage.reader import Evaluation, Line, pick, read_config, read_evaluation, read_lines, read_object
from rapo_ray.storage.run_folder import REPORT

WRITTEN = ("metrics.jsonl", "warmup.jsonl", "config.yaml")


@dataclass(frozen=True, slots=True)
class RunStatus:
    """What a run's folder says; `quiet` is the seconds since it last wrote something."""

    folder: Path
    state: str
    quiet: float
    config: RunConfig
    metrics: Sequence[Line]
    checkpoint: int | None
    evaluation: Evaluation | None
    best: int | None
    summary: Line | None

    @property
    def over(self) -> bool:
        """True where nothing more is to come unless somebody starts the run again."""
        return self.state in ("finished", "stopped")


def newest_run(out: Path) -> Path:
    """The run below `out` that wrote last; raises ReportError where there is none."""
    runs = [path.parent for path in out.glob("*/config.yaml")]
    if not runs:
        raise ReportError(f"{out}: no run is below it; name a run's folder, or the folder of runs with --out")
    return max(runs, key=_last_write)


def read_status(folder: Path) -> RunStatus:
    """Read a run's folder, whatever state it is in; raises ReportError where it is none."""
    if not (folder / "config.yaml").is_file():
        raise ReportError(f"{folder}: no config.yaml is in it, so it is no run's folder")
    summary, best = folder / "summary.json", folder / "best" / "best.json"
    found = [read_evaluation(path.parent) for path in folder.glob("evaluations/*/results.json")]
    evaluations = [one for one in found if one.round_number is not None]
    rounds = [match[1] for path in folder.glob(f"checkpoints/*/{MARK}") if (match := NAME.fullmatch(path.parent.name))]
    return RunStatus(
        folder=folder,
        state="finished" if summary.is_file() else _state_of_lock(folder / ".lock"),
        quiet=max(0.0, time.time() - _last_write(folder)),
        config=read_config(folder / "config.yaml"),
        metrics=read_lines(folder / "metrics.jsonl"),
        checkpoint=max(map(int, rounds), default=None),
        evaluation=max(evaluations, key=lambda one: one.round_number or 0, default=None),
        best=pick(read_object(best), "round") if best.is_file() else None,
        summary=read_object(summary) if summary.is_file() else None,
    )


def _state_of_lock(path: Path) -> str:
    """Whether some process of a machine that shares this folder's locks holds the run."""
    if not path.is_file():
        return "unknown (the folder was copied without its lock)"
    with path.open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return "running"
    return "stopped"


def _last_write(folder: Path) -> float:
    return max(path.stat().st_mtime for name in WRITTEN if (path := folder / name).is_file())


def facts(status: RunStatus) -> list[tuple[str, str]]:
    """The status as names and texts, in the order in which people want them."""
    last = status.metrics[-1] if status.metrics else None
    rows = [
        ("state", status.state if status.over else f"{status.state}, last wrote {_ago(status.quiet)} ago"),
        ("round", f"{last['round'] if last else 0} of {status.config.rounds}"),
    ]
    if last is not None:
        rows += _figures(last)
    rows.append(("checkpoint", "none" if status.checkpoint is None else f"after round {status.checkpoint}"))
    rows.append(("evaluation", _evaluation(status)))
    if status.summary is not None:
        delta, n = (pick(status.summary, *keys) for keys in (("delta", "total", "mean"), ("stages", "rapo", "n")))
        rows.append(("held-out", f"total, rapo - sft: {_number(delta, '+.3f')} (n {n})"))
    report = status.folder.resolve() / REPORT
    rows.append(("report", report.as_uri() if report.is_file() else f"python -m rapo_ray.report {status.folder}"))
    return rows


def _figures(line: Line) -> list[tuple[str, str]]:
    reward, update = pick(line, "reward") or {}, pick(line, "update") or {}
    shares, statuses = pick(line, "shares") or {}, pick(line, "judge", "statuses") or {}
    seconds, rates = pick(line, "seconds") or {}, pick(line, "tokens_per_second") or {}
    return [
        ("weights", f"version {line.get('policy_version')} made the last round's completions"),
        ("reward", _several(reward, ("total", "risk", "general"), "+.2f")),
        ("shares", _several(shares, ("malformed", "truncated", "unscorable"), ".0%")),
        ("verdicts", ", ".join(f"{name} {count}" for name, count in statuses.items() if count) or "none"),
        ("update", _several(update, ("kl", "logprob_gap_mean", "loss"), ".2g")),
        ("seconds", _several(seconds, tuple(seconds), ".1f")),
        ("tokens/s", _several(rates, tuple(rates), ".0f")),
    ]


def _several(found: dict[str, Any], names: tuple[str, ...], form: str) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {_number(found.get(name), form)}" for name in names) or "none"


def _evaluation(status: RunStatus) -> str:
    one = status.evaluation
    if one is None:
        return "none"
    gate = (pick(one.gate, "verdict") or "none") if one.gate else "none"
    best = "" if status.best is None else f"; best so far: round {status.best}"
    return f"after round {one.round_number}: attack success {_asr(one.results)}, gate {gate}{best}"


def _asr(results: Line) -> str:
    broken_down = ("suite", "attack", "category", "level")
    for metric in results["metrics"]:
        if metric["name"] == "asr" and all(metric[name] is None for name in broken_down):
            return _number(metric["value"], ".3f")
    return "-"


def _number(value: Any, form: str) -> str:
    return format(value, form) if isinstance(value, int | float) else "-"


def _ago(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
