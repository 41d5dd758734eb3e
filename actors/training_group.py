"""All ranks of the policy, and all reference actors, behind one object each."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from actors.ray_calls import ActorHandle, get_all
from rapo_ray.config.learning import PolicyConfig
from rapo_ray.config.run import LimitsConfig
from rapo_ray.errors import CheckpointError, RoundLost
from rapo_ray.roles import Saved
from rapo_ray.trainer.batch import MicroBatch, pack_rows, plan_steps, split_by_tokens
from rapo_ray.types import Packed, Sequence, UpdateResult


class ReferenceGroup:
    """All reference actors."""

    def __init__(self, actors: list[ActorHandle], limits: LimitsConfig, max_tokens: int, row_tokens: int) -> None:
        self._actors = actors
        self._limits = limits
        self._max_tokens = max_tokens
        self._row_tokens = row_tokens

    def attach_logprobs(self, sequences: list[Sequence]) -> list[Sequence]:
        """The sequences with the reference's log-probs, in the same order."""
        numbers = {id(sequence): number for number, sequence in enumerate(sequences)}
        rows = pack_rows([(sequence,) for sequence in sequences], self._row_tokens)
        micro_batches = [
            MicroBatch(tuple(tuple(unit[0] for unit in rows[index]) for index in indices))
            for indices in split_by_tokens(rows, self._max_tokens)
        ]
        count = len(self._actors)
        shares = [micro_batches[index::count] for index in range(count)]
        refs = [actor.logprobs.remote(Packed(share)) for actor, share in zip(self._actors, shares, strict=True)]
        results = get_all(refs, self._limits.update, "the reference's log-probs", "limits.update")
        out = list(sequences)
        for share, values in zip(shares, results, strict=True):
            sent = (sequence for micro_batch in share for sequence in micro_batch.sequences)
            for sequence, logprobs in zip(sent, values, strict=True):
                out[numbers[id(sequence)]] = replace(sequence, reference_logprobs=tuple(logprobs))
        return out


class PolicyGroup:
    """All ranks of the policy."""

    def __init__(self, actors: list[ActorHandle], config: PolicyConfig, limits: LimitsConfig) -> None:
        self._actors = actors
        self._config = config
        self._limits = limits
        self._make_room: Callable[[], None] | None = None  # on GPUs that the engines share
        self._steady = threading.Lock()
        self._sent: int | None = None  # version of the weights that it holds and has sent; None once it trains on
        self._save: list[Any] = []  # the ranks' calls of a save that nothing has waited for

    def update(self, sequences: list[Sequence]) -> UpdateResult:
        """Take a round's optimizer steps on all ranks."""
        self.wait_for_save()
        with self._steady:
            self._sent = None
        if self._make_room is not None:
            self._make_room()
        config = self._config
        unit = 2 if config.learns_from_pairs else 1
        limits = (config.micro_batch_tokens, config.row_tokens)
        shares = plan_steps(sequences, config.steps_per_round, config.ranks, *limits, unit)
        refs = [actor.update.remote(Packed(share)) for actor, share in zip(self._actors, shares, strict=True)]
        sums = get_all(refs, self._limits.update, "the policy update", "limits.update")
        if self._make_room is not None:
            self._on_all("release_memory")
        return UpdateResult(_sum_ranks(sums))

    def share_gpus(self, make_room: Callable[[], None]) -> None:
        """Call `make_room` before each update, and give freed GPU memory back after it."""
        self._make_room = make_room

    @property
    def can_resend(self) -> bool:
        """False where a failed transfer leaves ranks waiting for each other to gather a parameter."""
        return self._config.ranks == 1 or self._config.zero_stage < 3

    def send_weights(self, version: int) -> None:
        """Send the weights to all engines, as `version`."""
        self._send(version, None)
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
