"""The roles of a run as protocols; groups of Ray actors and hand-written fakes both fit."""

from collections import abc
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from rapo_ray.types import Completion, Draft, GeneratedText, Prompt, Response, Rollout, Sequence, UpdateResult, Verdict

Batch = abc.Sequence[Rollout]
Responses = abc.Sequence[Response]
Judged = Callable[[int, int], None]  # called with the number of judged completions and of all
Saved = Callable[[], dict[str, str]]  # waits for the end of a save; SHA-256 of each file by its path below the folder


class PromptSource(Protocol):
    """The training prompts in their order."""

    def next_batch(self, number: int) -> list[Prompt]:
        """The prompts of round `number`, which comes after the one before."""


class Rollouts(Protocol):
    """The engines that sample training rollouts."""

    def generate(self, prompts_P: list[Prompt], samples: range, round_number: int) -> Iterator[Batch]:
        """Rollouts as they finish, in batches that may be empty, each (prompt, sample) once; round 0 measures."""


class Responder(Protocol):
    """A model under evaluation: the engines, or an HTTP endpoint."""

    def respond(self, prompts_P: list[Prompt]) -> Iterator[Responses]:
        """One response to each prompt, in batches that may be empty, as they finish."""

    def prompt_lengths(self, prompts: list[Prompt]) -> list[int] | None:
        """Tokens of each rendered prompt; None where only the endpoint knows."""


class Writer(Protocol):
    """Engines that write on from the beginning of a completion."""

    def write(self, drafts: list[Draft]) -> list[GeneratedText]:
        """Whole completions of drafts, written greedily, in order."""


class Judge(Protocol):
    """The judges."""

    def score(
        self, prompts_P: list[Prompt], batches: Iterable[Responses]
    ) -> Iterator[tuple[Response, Completion, Verdict]]:
        """Send each response to a judge the moment it arrives, and yield verdicts as they return."""


class Reference(Protocol):
    """The frozen reference."""

    def attach_logprobs(self, sequences: list[Sequence]) -> list[Sequence]:
        """The same sequences with the reference's log-probs."""


class Policy(Protocol):
    """The trained model."""

    def update(self, sequences: list[Sequence]) -> UpdateResult:
        """Take a round's optimizer steps."""

    def save(self, folder: Path) -> Saved:
        """Begin to write everything that resuming needs, as it is at this moment."""

    @property
    def saving(self) -> bool:
        """True from the beginning of a save until something has waited for it."""

    def wait_for_save(self) -> None:
        """Wait for a save in flight; raises what made it fail."""

    def load(self, folder: Path) -> None:
        """Restore what `save` wrote."""

    def export(self, folder: Path, dtype: str) -> None:
        """Write the model for transformers and vLLM."""


class WeightSync(Protocol):
    """The path of the weights to the engines."""

    def sync(self, version: int) -> None:
        """Give every engine the policy's weights under `version`; raises EngineError where one disagrees."""


@dataclass(frozen=True, slots=True)
class Inference:
    """The half that samples and judges."""

    rollouts: Rollouts
    judge: Judge


@dataclass(frozen=True, slots=True)
class Learner:
    """The half that learns; `reference` is None where the KL is off."""

    reference: Reference | None
    policy: Policy
    weights: WeightSync


@dataclass(slots=True)
class Progress:
    """Callbacks for whoever watches a round."""

    judged: Judged = field(default=lambda done, total: None)
    phase: Callable[[str], None] = field(default=lambda name: None)
