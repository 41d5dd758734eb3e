"""State of a run, read from its folder alone: without Ray and without the run's process."""

import fcntl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rapo_ray.config import RunConfig
from rapo_ray.errors import ReportError
from rapo_ray.evaluation.swaps import OPPOSITE
from rapo_ray.report import terminal
from rapo_ray.report.parts import NONE, number
from rapo_ray.storage.checkpoint import complete_rounds
from rapo_ray.storage.layout import RunLayout, Stage
from rapo_ray.storage.metrics import RoundMetrics
from rapo_ray.storage.reader import Evaluation, read_alarms, read_config, read_evaluations, read_metrics, read_optional
from rapo_ray.storage.records import AlarmChange, Best, Failure, RunSummary, active_alarms


@dataclass(frozen=True, slots=True)
class RunStatus:
    """Content of a run's folder; `quiet` is the seconds since it last wrote something."""

    folder: Path
    state: str
    quiet: float
    config: RunConfig
    metrics: Sequence[RoundMetrics]
    alarms: Sequence[AlarmChange]  # that are active
    checkpoint: int | None
    evaluation: Evaluation | None
    best: Best | None
    summary: RunSummary | None
    failure: Failure | None = None

    @property
    def over(self) -> bool:
        """True where nothing more will come unless somebody starts the run again."""
        return self.state in ("finished", "stopped", "failed")


def newest_run(out: Path) -> Path:
    """Find the run below `out` that wrote last; raises ReportError where there is none."""
    runs = [run for run in map(RunLayout, out.glob("*/")) if run.config.is_file()]
    if not runs:
        raise ReportError(f"{out}: no run is below it; name a run's folder, or the folder of runs with --out")
    return max(runs, key=_last_write).path


def read_status(folder: Path) -> RunStatus:
    """Read a run's folder in any state; raises ReportError where it is not one."""
    run = RunLayout(folder)
    if not run.config.is_file():
        raise ReportError(f"{folder}: no config.yaml is in it, so it is no run's folder")
    failure = read_optional(Failure, run.failure)
    state = "finished" if run.summary.is_file() else _state_of_lock(run.lock)
    evaluations = [one for one in read_evaluations(run) if one.round_number is not None]
    return RunStatus(
        folder=folder,
        state="failed" if state == "stopped" and failure is not None else state,
        quiet=max(0.0, time.time() - _last_write(run)),
        config=read_config(run.config),
        metrics=read_metrics(run.metrics),
        alarms=list(active_alarms(read_alarms(run.alarms)).values()),
        checkpoint=max(complete_rounds(run.checkpoints), default=None),
        evaluation=evaluations[-1] if evaluations else None,
        best=read_optional(Best, run.best_record),
        summary=read_optional(RunSummary, run.summary),
        failure=failure,
    )


def _state_of_lock(path: Path) -> str:
    """State of an unfinished run: it runs while a process holds its lock, on any machine that shares the locks."""
    if not path.is_file():
        return "unknown (the folder was copied without its lock)"
    with path.open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return "running"
    return "stopped"


def _last_write(run: RunLayout) -> float:
    return max(path.stat().st_mtime for path in (run.metrics, run.warmup_log, run.config) if path.is_file())


def facts(status: RunStatus) -> list[tuple[str, str]]:
    """Status as names and texts, in the order in which people want them."""
    last = status.metrics[-1] if status.metrics else None
    rows = [
        ("state", status.state if status.over else f"{status.state}, last wrote {_ago(status.quiet)} ago"),
        ("round", f"{last.round if last else 0} of {status.config.rounds}"),
    ]
    if status.failure is not None and status.state == "failed":
        rows.append(("reason", status.failure.reason))
    rows += [("alarm", f"{one.name} since round {one.round}: {one.message}") for one in status.alarms]
    if last is not None:
        rows += [*_mechanism(last), *_figures(last)]
    rows.append(("checkpoint", "none" if status.checkpoint is None else f"after round {status.checkpoint}"))
    rows.append(("evaluation", _evaluation(status)))
    if status.summary is not None:
        rapo = status.summary.stages.get(Stage.RAPO)
        delta = number(status.summary.delta.total.mean, "+.3f")
        rows += [("held-out", line) for line in _traces(status.summary)]
        rows += [("held-out", line) for line in terminal.mechanism_lines(status.summary.delta)]
        rows.append(("held-out", f"total, rapo - sft: {delta} (n {rapo.n if rapo else NONE})"))
    report = RunLayout(status.folder.resolve()).report
    rows.append(("report", report.as_uri() if report.is_file() else f"python -m rapo_ray.report {status.folder}"))
    return rows


def _traces(summary: RunSummary) -> list[str]:
    """Causality and monitorability of the traces of each stage."""
    measured = terminal.traces(list(summary.stages.values()))
    rows = {label: measured[label] for label in (terminal.SWAPS[OPPOSITE], terminal.MONITOR) if label in measured}
    return [
        f"{label}: {_several(dict(zip(summary.stages, values, strict=True)), '.2f')}" for label, values in rows.items()
    ]


def _mechanism(metrics: RoundMetrics) -> list[tuple[str, str]]:
    shares = {
        "adequate": [(name, one.adequate) for name, one in metrics.levels.items()],
        "benign answered": [(name, one.benign_answered) for name, one in metrics.levels.items()],
        "harmful refused": [(name, one.harmful_refused) for name, one in metrics.levels.items()],
    }
    rows = [
        (label, ", ".join(f"level {name} {tally.share:.0%}" for name, tally in tallies if tally.share is not None))
        for label, tallies in shares.items()
    ]
    lengths = {f"level {name}": one.trace_sentences for name, one in metrics.levels.items() if one.traces}
    return [(label, text) for label, text in [*rows, ("sentences", _several(lengths, ".1f"))] if text]


def _figures(metrics: RoundMetrics) -> list[tuple[str, str]]:
    reward, shares, update, statuses = metrics.reward, metrics.shares, metrics.update, metrics.judge.statuses
    shown = {"malformed": shares.malformed, "truncated": shares.truncated, "unscorable": shares.unscorable}
    shown |= {} if shares.consistent is None else {"consistent": shares.consistent}
    updated = {"kl": update.kl, "logprob gap mean": update.logprob_gap_mean, "loss": update.loss}
    return [
        ("weights", f"version {metrics.policy_version} made the last round's completions"),
        ("reward", _several({"total": reward.total, "risk": reward.risk, "general": reward.general}, "+.2f")),
        ("shares", _several(shown, ".0%")),
        ("verdicts", ", ".join(f"{name} {count}" for name, count in statuses.items() if count) or "none"),
        ("update", _several(updated, ".2g")),
        ("seconds", _several(metrics.seconds, ".1f")),
        ("tokens/s", _several(metrics.tokens_per_second, ".0f")),
    ]


def _several(values: Mapping[str, float | None], form: str) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {number(value, form)}" for name, value in values.items()) or "none"


def _evaluation(status: RunStatus) -> str:
    if status.evaluation is None:
        return "none"
    results = status.evaluation.results
    asr, follows = (results.overall(results.model, name) for name in ("asr", "trace_follows"))
    success = number(asr.value if asr else None, ".3f")
    causal = f", {terminal.SWAPS[OPPOSITE]} {number(follows.value)}" if follows else ""
    gate = results.gate.verdict if results.gate else "none"
    best = "" if status.best is None else f"; best so far: round {status.best.round}"
    return f"after round {status.evaluation.round_number}: attack success {success}{causal}, gate {gate}{best}"


def _ago(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
