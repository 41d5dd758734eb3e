"""A rank of the policy as a Ray actor."""

import socket
from pathlib import Path
from typing import Any

import ray

from rapo_ray.config.learning import PolicyConfig
from rapo_ray.models.source import ModelSource
from rapo_ray.trainer.batch import MicroBatch, Step
from rapo_ray.trainer.deepspeed_setup import join_process_group
from rapo_ray.trainer.policy import PolicyRank


class PolicyActor:
    """One DeepSpeed rank; every method but `rendezvous` is called on all ranks at once."""

    def __init__(self, name: str, config: PolicyConfig, rank: int, device: str, shares_card: bool = False) -> None:
        self._name = name
        self._config = config
        self._rank = rank
        self._device = device
        self._shares_card = shares_card

    def rendezvous(self) -> tuple[str, int]:
        """Address and a free port of this rank's node."""
        with socket.socket() as probe:
            probe.bind(("", 0))
            return ray.util.get_node_ip_address(), int(probe.getsockname()[1])

    def start(
        self, address: str, port: int, model: ModelSource, temperature: float, total_steps: int, seed: int
    ) -> str:
        """Join the other ranks and load the model."""
        join_process_group(self._rank, self._config.ranks, address, port, self._device)
        own = (self._config, model.on_this_node(), self._rank)
        self._policy = PolicyRank(*own, temperature, total_steps, seed, self._shares_card)
        return self._name

    def connect_engines(self, engines: list[Any], backend: str, workers: int, dtype: str, timeout: float) -> None:
        """Open the weight transfer to engines of `workers` workers each."""
        from rapo_ray.engines.transfer import open_transfer

        self._transfer = open_transfer(
            self._policy, self._rank, engines, backend, workers, dtype, timeout, self.rendezvous
        )

    def update(self, steps: list[Step]) -> dict[str, float]:
        """This rank's share of a round's optimizer steps."""
        return self._policy.update(steps)

    def reference_logprobs(self, micro_batches: list[MicroBatch]) -> list[list[list[float]]]:
        """Log-probs [T] of every sequence of each micro-batch, under the weights that training started from."""
        return self._policy.reference_logprobs(micro_batches)

    def leave_card(self) -> None:
        """Move the rank's states to host memory."""
        self._policy.leave_card()

    def return_to_card(self) -> None:
        """Move the rank's states back."""
        self._policy.return_to_card()

    def send_weights(self, version: int, engines: list[int] | None) -> None:
        """Send the weights to these engines, or to all, as `version`."""
        self._transfer.send(version, engines)
        if self._shares_card:
            self._policy.release_memory()

    def save(self, folder: Path) -> dict[str, str]:
        """Write a checkpoint; returns the SHA-256 of this rank's files."""
        return self._policy.save(folder)

    def load(self, folder: Path) -> None:
        """Restore a checkpoint."""
        self._policy.load(folder)

    def export(self, folder: Path, dtype: str) -> None:
        """Write the model for transformers and vLLM."""
        self._policy.export(folder, dtype)

    def weight_checksums(self, dtype: str) -> dict[str, str]:
        """SHA-256 of every weight in `dtype`; a head tied to the embedding counts too, as engines compute with it."""
        from rapo_ray.engines.worker_extension import digest

        checksums = {name: digest(tensor) for name, tensor in self._policy.weights(dtype)}
        if self._policy.tied:
            checksums["lm_head.weight"] = checksums["model.embed_tokens.weight"]
        return checksums
