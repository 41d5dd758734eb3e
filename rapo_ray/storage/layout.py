"""Names of all files and folders of a run, and of an evaluation."""

import re
from enum import StrEnum
from pathlib import Path

_ROUND = re.compile(r"round-(\d{6}|[1-9]\d{6,})")


class Stage(StrEnum):
    """A model of a run whose held-out figures are measured: before the warm-up, after it, after the rounds."""

    BASE = "base"
    SFT = "sft"
    RAPO = "rapo"


def round_name(number: int) -> str:
    """Name of what a run leaves of one round, without its suffix."""
    return f"round-{number:06d}"


def round_of(name: str) -> int | None:
    """Inverse of `round_name`; None for any other name."""
    match = _ROUND.fullmatch(name)
    return int(match[1]) if match else None


class EvaluationLayout:
    """Paths of one evaluation or intervention study."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.identity = path / "evaluation.json"
        self.results = path / "results.json"
        self.gate = path / "gate.json"
        self.rows = path / "rows.parquet"
        self.study = path / "intervention.json"

    def rows_of(self, name: str) -> Path:
        """Rows of one model, or of one depth of an intervention, as they are collected."""
        return self.path / f"{name}.jsonl"

    def swaps_of(self, name: str) -> Path:
        """Swapped traces of one model."""
        return self.path / f"{name}.swaps.parquet"


class RunLayout:
    """Paths of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.lock = path / ".lock"
        self.metrics = path / "metrics.jsonl"
        self.canaries = path / "canaries.jsonl"
        self.alarms = path / "alarms.jsonl"
        self.contamination = path / "contamination.jsonl"
        self.content = path / "content.json"  # digests of what the config names by path
        self.left_out = path / "left_out.jsonl"
        self.failure = path / "failure.json"
        self.seconds = path / "seconds.json"
        self.demonstrations = path / "demonstrations.jsonl"
        self.warmup = path / "warmup"  # work folder of Ray Train
        self.warmup_log = path / "warmup.jsonl"
        self.rounds = path / "rounds"
        self.heldout = path / "heldout"
        self.checkpoints = path / "checkpoints"
        self.sft = path / "sft"
        self.model = path / "model"
        self.best = path / "best"
        self.best_record = self.best / "best.json"
        self.evaluations = path / "evaluations"
        self.intervention = path / "intervention"
        self.study = EvaluationLayout(self.intervention).study
        self.preferences = path / "preferences.parquet"
        self.tensorboard = path / "tensorboard"
        self.summary = path / "summary.json"
        self.report = path / "report.html"

    def round_file(self, number: int) -> Path:
        """Rows of one round."""
        return self.rounds / f"{round_name(number)}.parquet"

    def round_files(self) -> dict[int, Path]:
        """Rows of each recorded round, in order."""
        files = self.rounds.glob("*.parquet")
        return dict(sorted((number, path) for path in files if (number := round_of(path.stem)) is not None))

    def heldout_file(self, stage: Stage) -> Path:
        """Rows of one stage's held-out measurement."""
        return self.heldout / f"{stage}.parquet"

    def swaps_file(self, stage: Stage) -> Path:
        """Swapped traces of one stage's held-out measurement."""
        return self.heldout / f"{stage}.swaps.parquet"

    def evaluation(self, name: str) -> EvaluationLayout:
        """Paths of one evaluation of the run."""
        return EvaluationLayout(self.evaluations / name)
