"""A rank of the policy as a Ray actor."""

import socket
from pathlib import Path
from typing import Any

import ray

from rapo_ray.config.learning import PolicyConfig
from rapo_ray.trainer.batch import Step
from rapo_ray.trainer.deepspeed_setup import join_process_group
from rapo_ray.trainer.policy import PolicyRank


class PolicyActor:
    """One DeepSpeed rank; every method but `rendezvous` is called on all ranks at once."""

    def __init__(self, name: str, config: PolicyConfig, rank: int, device: str) -> None:
        self._name = name
        self._config = config
        self._rank = rank
        self._device = device

    def rendezvous(self) -> tuple[str, int]:
        """Address and a free port of this rank's node."""
        with socket.socket() as probe:
            probe.bind(("", 0))
            return ray.util.get_node_ip_address(), int(probe.getsockname()[1])

    def start(self, address: str, port: int, model: Path, temperature: float, total_steps: int, seed: int) -> str:
        """Join the other ranks and load the model."""
        join_process_group(self._rank, self._config.ranks, address, port, self._device)
        self._policy = PolicyRank(self._config, model, self._rank, temperature, total_steps, seed)
        return self._name

    def connect_engines(self, engines: list[Any], transfer: dict[str, Any], dtype: str, timeout: float) -> None:
        """Open the weight transfer to the engines."""
        from rapo_ray.engines.transfer import open_transfer

        self._transfer = open_transfer(self._policy, self._rank, engines, transfer, dtype, timeout)

    def update(self, steps: list[Step]) -> dict[str, float]:
        """This rank's share of a round's optimizer steps."""
        return self._policy.update(steps)

    def release_memory(self) -> None:
        """Give back the GPU memory that torch caches."""
        self._policy.release_memory()

    def send_weights(self, version: int, engines: list[int] | None) -> None:
        """Send the weights to these engines, or to all, as `version`."""
        self._transfer.send(version, engines)

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
