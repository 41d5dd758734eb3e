"""The injected faults, and a run to inject them into."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.e2e.conftest import REPOSITORY, Cluster, environment, train_command

ROUNDS = 4
# Rounds last for seconds, so that a fault hits its phase.
SETTINGS: dict[str, Any] = {"rounds": ROUNDS, "prompts_per_round": 48, "rollout": {"engines": 2, "max_num_seqs": 96}}

FAULTS = {
    1: "SIGKILL of a rollout engine while it generates",
    2: "SIGKILL of all rollout engines, repeatedly",
    3: "SIGSTOP of a rollout engine",
    4: "SIGKILL of an engine while weights are sent",
    5: "SIGKILL of the driver while it writes a checkpoint",
    6: "SIGKILL of the policy during an update",
    7: "a full disk at checkpoint time",
    8: "corruption of a checkpoint, of every kind",
    9: "an HTTP judge that fails in every way",
    10: "judge replies that are not verdicts",
    11: "completions that address the judge",
    12: "malformed completions: truncated, no </think>, empty",
    13: "poisoned data rows",
    14: "a loss or gradient that is not finite",
    15: "loss of a node that hosts an engine or the policy",
    16: "SIGTERM and `ray job stop`",
    17: "SIGKILL of an endpoint's replica under load",
    18: "more requests than the endpoint's queue holds",
    19: "Ray calls that fail intermittently",
    20: "two drivers on one run; a changed config on resume",
}


@dataclass
class Recovered:
    """Consequences of a fault, in seconds from its injection, and the work that was lost."""

    number: int
    detected: float | None = None
    back: float | None = None
    lost_work: str = ""

    def __str__(self) -> str:
        parts = [f"detected in {self.detected:.1f} s"] if self.detected is not None else []
        parts += [f"recovered in {self.back:.1f} s"] if self.back is not None else []
        return ", ".join([*parts, *([f"lost: {self.lost_work}"] if self.lost_work else [])])


class Live:
    """A run in progress."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path, log: Path) -> None:
        self.process = process
        self.folder = folder
        self._log = log

    @property
    def output(self) -> str:
        """Complete output so far."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def until(self, holds: Callable[[], object], what: str, limit: float = 300) -> float:
        """Wait until `holds()` is true while the run is alive; returns the seconds that it took."""
        started = time.monotonic()
        while not holds():
            assert self.process.poll() is None, f"the run ended before {what}:\n{self.output[-3000:]}"
            assert time.monotonic() - started < limit, f"{what} never came:\n{self.output[-3000:]}"
            time.sleep(0.01)
        return time.monotonic() - started

    def until_printed(self, text: str, limit: float = 300) -> float:
        """Wait for a text in the output."""
        return self.until(lambda: text in self.output, f"`{text}`", limit)

    def until_round(self, number: int) -> float:
        """Wait until a round is complete."""
        return self.until(lambda: len(metrics(self.folder)) >= number, f"round {number}")

    def wait(self, limit: float = 300) -> int:
        """Wait for the run to end; returns its exit status."""
        return self.process.wait(limit)


@contextmanager
def running(recipe: Path, cluster: Cluster) -> Iterator[Live]:
    """Start a run on a cluster; it is killed on exit if it still runs."""
    log = recipe.with_name(f"output-{time.monotonic_ns()}.txt")
    with log.open("wb") as out:
        process = subprocess.Popen(
            train_command(recipe), cwd=REPOSITORY, env=environment(**cluster.env), stdout=out, stderr=out
        )
    try:
        yield Live(process, recipe.parent / "tiny", log)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def actors(kind: str, cluster: Cluster) -> list[psutil.Process]:
    """Processes of an actor class on a cluster, oldest first."""
    matches = []
    port = cluster.env["RAY_ADDRESS"].rpartition(":")[2]
    for process in psutil.process_iter(["cmdline", "create_time", "status"]):
        line = " ".join(process.info["cmdline"] or ())
        if line.startswith(f"ray::{kind}") and process.info["status"] != psutil.STATUS_ZOMBIE:
            with suppress(psutil.NoSuchProcess):
                raylet = psutil.Process(process.ppid()).cmdline()
                if any(argument.startswith("--gcs-address=") and argument.endswith(f":{port}") for argument in raylet):
                    matches.append((process.info["create_time"], process.pid, process))
    return [process for _, _, process in sorted(matches)]


def send(process: psutil.Process, number: signal.Signals) -> None:
    """Send a signal to a process."""
    os.kill(process.pid, number)


def metrics(run: Path) -> list[dict[str, Any]]:
    """Read the complete lines of metrics.jsonl."""
    path = run / "metrics.jsonl"
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def records(run: Path) -> list[dict[str, object]]:
    """Read every sample of every round, in order, without the fields that a fault may change: engine, judge seconds."""
    import pyarrow.parquet as pq

    rows = []
    for path in sorted((run / "rounds").glob("*.parquet")):
        for row in pq.read_table(path).to_pylist():
            del row["engine"], row["judge_seconds"]
            rows.append({"round": path.stem, **row})
    return sorted(rows, key=lambda row: (row["round"], row["group"], row["sample"]))


def parameters(run: Path) -> dict[str, bytes]:
    """Read every float32 parameter of the last checkpoint, as bytes."""
    import torch

    last = max((run / "checkpoints").glob("round-*/COMPLETE")).parent
    (path,) = (last / "policy" / "policy").glob("mp_rank_00_model_states.pt")
    return {name: tensor.numpy().tobytes() for name, tensor in torch.load(path, weights_only=False)["module"].items()}


def same_end(run: Path, reference: Path) -> None:
    """Assert that every sample, reward, advantage and final parameter equals that of the undisturbed run."""
    assert [line["round"] for line in metrics(run)] == [line["round"] for line in metrics(reference)]
    keys = [(row["round"], row["group"], row["sample"]) for row in records(run)]
    assert len(keys) == len(set(keys)) > 0
    assert records(run) == records(reference)
    assert parameters(run) == parameters(reference)
