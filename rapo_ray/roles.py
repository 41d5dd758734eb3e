"""What the orchestrator needs of each role, and nothing more; Ray groups and hand-written fakes both fit."""

from collections import abc
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from rapo_ray.types import Completion, Prompt, Rollout, Sequence, UpdateResult, Verdict

Batch = abc.Sequence[Rollout]
Judged = Callable[[int, int], None]  # how many of how many completions are judged


class Rollouts(Protocol):
    """The engines."""

    def generate(self, prompts_P: list[Prompt], samples: range, round_number: int) -> Iterator[Batch]:
        """Completions as they end, in batches that may be empty, every (prompt, sample) once; round 0 measures."""
        ...


class Judge(Protocol):
    """The judges."""

    def score(self, prompts_P: list[Prompt], batches: Iterable[Batch]) -> Iterator[tuple[Rollout, Completion, Verdict]]:
        """Send each completion to a judge the moment it comes, and yield verdicts as they come back."""
        ...


class Reference(Protocol):
    """The frozen reference."""

    def attach_logprobs(self, sequences: list[Sequence]) -> list[Sequence]:
        """The same sequences with the reference's log-probs."""
        ...


class Policy(Protocol):
    """The trained model."""

    def update(self, sequences: list[Sequence]) -> UpdateResult:
        """Take a round's optimizer steps."""
        ...

    def save(self, folder: Path) -> None:
        """Write everything that resuming needs."""
        ...

    def export(self, folder: Path, dtype: str) -> None:
        """Write the model for transformers and vLLM."""
        ...


class WeightSync(Protocol):
    """The way of weights to the engines."""

    def sync(self, version: int) -> None:
        """Give every engine the policy's weights under `version`; raises EngineError where one disagrees."""
        ...


@dataclass(slots=True)
class Progress:
    """What a watcher is told while a round runs."""

    judged: Judged = field(default=lambda done, total: None)
    phase: Callable[[str], None] = field(default=lambda name: None)
