"""All ranks of the policy, and all reference actors, behind one object each."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from actors.judge_group import JudgeGroup
from actors.ray_calls import ActorHandle, get_all
from actors.rollout_group import RolloutGroup
from rapo_ray.config.learning import PolicyConfig
from rapo_ray.config.run import LimitsConfig
from rapo_ray.errors import ActorDied, CheckpointError, RoundLost
from rapo_ray.roles import Saved
from rapo_ray.trainer.batch import MicroBatch, pack_rows, plan_steps, split_by_tokens
from rapo_ray.types import Packed, Sequence, UpdateResult


class SharedCards:
    """The inference side of the cards that engines and judges share with the policy."""

    def __init__(self, rollouts: RolloutGroup, judges: JudgeGroup) -> None:
        self._rollouts = rollouts
        self._judges = judges

    def free(self) -> None:
        """Put engines and judges to sleep; where an engine is dead, all are restarted first, as new weights are due."""
        try:
            self._rollouts.sleep()
        except ActorDied as error:
            if not self._rollouts.engines.restart_all(str(error)):
                raise
            self._rollouts.sleep()
        self._judges.sleep()

    def wake_judges(self) -> None:
        """Wake the judges; a weight sync wakes the engines."""
        self._judges.wake()


def attach_reference(
    sequences: list[Sequence], row_tokens: int, max_tokens: int, logprobs: Callable[[list[MicroBatch]], Iterator[Any]]
) -> list[Sequence]:
    """The sequences with the log-probs that `logprobs` gives for each micro-batch, in the same order."""
    numbers = {id(sequence): number for number, sequence in enumerate(sequences)}
    rows = pack_rows([(sequence,) for sequence in sequences], row_tokens)
    micro_batches = [
        MicroBatch(tuple(tuple(item[0] for item in rows[index]) for index in indices))
        for indices in split_by_tokens(rows, max_tokens)
    ]
    out = list(sequences)
    for micro_batch, values in zip(micro_batches, logprobs(micro_batches), strict=True):
        for sequence, logprobs_T in zip(micro_batch.sequences, values, strict=True):
            out[numbers[id(sequence)]] = replace(sequence, reference_logprobs=tuple(logprobs_T))
    return out


def deal(micro_batches: list[MicroBatch], count: int, level: bool = False) -> list[list[MicroBatch]]:
    """The micro-batches dealt over `count` actors; where `level`, fillers give each as many as the others."""
    fillers = -len(micro_batches) % count if level else 0
    dealt = [*micro_batches, *(replace(micro_batches[-1], filler=True) for _ in range(fillers))]
    return [dealt[index::count] for index in range(count)]


def in_order(shares: list[list[list[list[float]]]], count: int) -> Iterator[list[list[float]]]:
    """The results of dealt micro-batches in the order before the deal; those of fillers are left out."""
    return (shares[number % len(shares)][number // len(shares)] for number in range(count))


class ReferenceGroup:
    """All reference actors."""

    def __init__(self, actors: list[ActorHandle], limits: LimitsConfig, max_tokens: int, row_tokens: int) -> None:
        self._actors = actors
        self._limits = limits
        self._max_tokens = max_tokens
        self._row_tokens = row_tokens

    def attach_logprobs(self, sequences: list[Sequence]) -> list[Sequence]:
        """The sequences with the reference's log-probs, in the same order."""
        return attach_reference(sequences, self._row_tokens, self._max_tokens, self._logprobs)

    def _logprobs(self, micro_batches: list[MicroBatch]) -> Iterator[list[list[float]]]:
        shares = deal(micro_batches, len(self._actors))
        refs = [actor.logprobs.remote(Packed(share)) for actor, share in zip(self._actors, shares, strict=True)]
        results = get_all(refs, self._limits.update, "the reference's log-probs", "limits.update")
        return in_order(results, len(micro_batches))


class PolicyAsReference:
    """The reference of the time-shared layout: the policy's ranks with the weights that training started from."""

    def __init__(self, policy: "PolicyGroup", max_tokens: int, row_tokens: int) -> None:
        self._policy = policy
        self._max_tokens = max_tokens
        self._row_tokens = row_tokens

    def attach_logprobs(self, sequences: list[Sequence]) -> list[Sequence]:
        """The sequences with the reference's log-probs, in the same order."""
        return attach_reference(sequences, self._row_tokens, self._max_tokens, self._policy.reference_logprobs)


class PolicyGroup:
    """All ranks of the policy; with `cards`, they take turns on them with the engines and judges there."""

    def __init__(
        self, actors: list[ActorHandle], config: PolicyConfig, limits: LimitsConfig, cards: SharedCards | None = None
    ) -> None:
        self._actors = actors
        self._config = config
        self._limits = limits
        self._cards = cards
        self._on_cards = True  # false while the ranks' states lie in host memory
        self._steady = threading.Lock()
        self._sent: int | None = None  # version of the weights that it holds and has sent; None once it trains on
        self._save: list[Any] = []  # the ranks' calls of a save that nothing has waited for

    def update(self, sequences: list[Sequence]) -> UpdateResult:
        """Take a round's optimizer steps on all ranks."""
        self.wait_for_save()
        with self._steady:
            self._sent = None
        self._take_cards()
        config = self._config
        unit = 2 if config.learns_from_pairs else 1
        limits = (config.micro_batch_tokens, config.row_tokens)
        shares = plan_steps(sequences, config.steps_per_round, config.ranks, *limits, unit)
        refs = [actor.update.remote(Packed(share)) for actor, share in zip(self._actors, shares, strict=True)]
        sums = get_all(refs, self._limits.update, "the policy update", "limits.update")
        return UpdateResult(_sum_ranks(sums))

    def reference_logprobs(self, micro_batches: list[MicroBatch]) -> Iterator[list[list[float]]]:
        """Log-probs of each micro-batch's sequences under the weights that training started from."""
        self._take_cards()
        shares = deal(micro_batches, len(self._actors), level=True)  # ZeRO-3 gathers a layer on all ranks at once
        refs = [
            actor.reference_logprobs.remote(Packed(share)) for actor, share in zip(self._actors, shares, strict=True)
        ]
        results = get_all(refs, self._limits.update, "the reference's log-probs", "limits.update")
        return in_order(results, len(micro_batches))

    def _take_cards(self) -> None:
        if self._cards is None or self._on_cards:
            return
        self._cards.free()
        self._on_all("return_to_card")
        self._on_cards = True

    @property
    def can_resend(self) -> bool:
        """False where a failed transfer leaves ranks waiting for each other to gather a parameter."""
        return self._config.ranks == 1 or self._config.zero_stage < 3

    def send_weights(self, version: int) -> None:
        """Send the weights to all engines, as `version`; shared cards are the engines' and the judges' afterwards."""
        if self._cards is not None:
            self._on_all("leave_card")
        self._send(version, None)
        if self._cards is not None:
            self._cards.wake_judges()
            self._on_cards = False
        self._sent = version

    def resend(self, engine: int) -> None:
        """Send the weights that all engines have to one of them; raises RoundLost where the policy has trained on."""
        with self._steady:
            if self._sent is None:
                raise RoundLost("the policy has trained on: a restarted engine gets its next weights only")
            self._send(self._sent, [engine])

    def _send(self, version: int, engines: list[int] | None) -> None:
        self._on_all("send_weights", version, engines, limit=self._limits.sync, setting="limits.sync")

    def save(self, folder: Path) -> Saved:
        """Begin to write a checkpoint of this moment's state: ranks take one call at a time, so what comes later waits.

        The result waits for its end and returns the SHA-256 of each file; raises CheckpointError where a rank's files
        are not on the driver's file system.
        """
        self.wait_for_save()
        self._save = refs = [actor.save.remote(folder.resolve()) for actor in self._actors]
        return lambda: self._saved(refs, folder)

    @property
    def saving(self) -> bool:
        """True from the beginning of a save until something has waited for it."""
        return bool(self._save)

    def wait_for_save(self) -> None:
        """Wait for a save in flight, so that no other call's limit pays for it; raises what made it fail."""
        self._results(self._save)
        self._save = []

    def _saved(self, refs: list[Any], folder: Path) -> dict[str, str]:
        sums: dict[str, str] = {}
        for rank, own in enumerate(self._results(refs)):
            if not all((folder / name).is_file() for name in own):
                raise CheckpointError(
                    f"policy-{rank} wrote elsewhere: {folder} must be on storage that all nodes share"
                )
            sums |= own
        return sums

    def _results(self, refs: list[Any]) -> list[dict[str, str]]:
        return get_all(refs, self._limits.update, "save of the policy", "limits.update")

    def load(self, folder: Path) -> None:
        """Restore a checkpoint."""
        self._take_cards()
        self._on_all("load", folder.resolve())

    def export(self, folder: Path, dtype: str) -> None:
        """Write the model for transformers and vLLM."""
        self._on_all("export", folder.resolve(), dtype)

    def weight_checksums(self, dtype: str) -> dict[str, str]:
        """SHA-256 of every weight in `dtype`."""
        checksums: dict[str, str] = self._on_all("weight_checksums", dtype)[0]
        return checksums

    def _on_all(
        self, method: str, *arguments: object, limit: float | None = None, setting: str = "limits.update"
    ) -> list[Any]:
        self.wait_for_save()
        refs = [getattr(actor, method).remote(*arguments) for actor in self._actors]
        return get_all(refs, limit or self._limits.update, f"{method} of the policy", setting)


RANK_ALIKE = ("learning_rate", "grad_norm", "optimizer_steps")  # the same figure on every rank


def _sum_ranks(per_rank: list[dict[str, float]]) -> dict[str, float]:
    out: dict[str, float] = {}
    for name in sorted({name for sums in per_rank for name in sums}):
        values = [sums[name] for sums in per_rank if name in sums]
        if name in RANK_ALIKE:
            out[name] = values[0]
        else:
            out[name] = max(values) if name.endswith("_max") else sum(values)
    return out
