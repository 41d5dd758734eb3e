"""The policy's side of vLLM's weight transfer: shared memory on CPU, NCCL on GPU."""

from collections.abc import Callable
from typing import Any

import ray
from vllm.distributed.weight_transfer.base import TrainerWeightTransferEngine, WeightTransferUpdatePayload

from rapo_ray.engines.shared_memory import PolicySource, SharedMemoryTrainer, SharedMemoryTrainerInitInfo


class EnginesClient:
    """A vLLM weight-sync client over Ray: each call goes to all target engines at once and waits for all of them."""

    def __init__(self, engines: list[Any], timeout: float, workers_per_engine: int = 1) -> None:
        self._engines = engines
        self._timeout = timeout
        self._workers = workers_per_engine
        self.version = 0
        self.only: list[int] | None = None  # target engines; None means all

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        """Open the transfer on every engine, each at ranks of its own: vLLM numbers the workers of one engine only."""
        calls = []
        for index, engine in enumerate(self._engines):
            own = dict(init_info)
            if "rank_offset" in own:
                own["rank_offset"] += index * self._workers
            calls.append(engine.init_weight_transfer.remote(own))
        ray.get(calls, timeout=self._timeout)

    def start_weight_update(self) -> None:
        """Begin an update on every engine."""
        self._on_all(lambda engine: engine.start_weight_update.remote())

    def update_weights(self, update_info: WeightTransferUpdatePayload) -> None:
        """Send one bucket to every engine."""
        self._on_all(lambda engine: engine.update_weights.remote(update_info))

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        """Finish the update on every engine, under the version being sent."""
        self._on_all(lambda engine: engine.finish_weight_update.remote(self.version))

    def _on_all(self, call: Callable[[Any], Any]) -> None:
        targets = self._engines if self.only is None else [self._engines[index] for index in self.only]
        ray.get([call(engine) for engine in targets], timeout=self._timeout)


class Transfer:
    """An open weight transfer from this rank to the engines."""

    def __init__(self, trainer: "TrainerWeightTransferEngine[Any]", client: EnginesClient) -> None:
        self._trainer = trainer
        self._client = client

    def send(self, version: int, engines: list[int] | None) -> None:
        """Send all weights as `version` to these engines, or to all; called on all ranks together."""
        self._client.version = version
        self._client.only = engines
        self._trainer.send_weights()


def open_transfer(
    policy: Any, rank: int, engines: list[Any], transfer: dict[str, Any], dtype: str, timeout: float
) -> Transfer:
    """Open the transfer that `transfer` describes: `backend`, and for NCCL address, port, world size and workers."""
    client = EnginesClient(engines, timeout, transfer.get("workers", 1))
    source = PolicySource(policy, dtype)
    trainer: TrainerWeightTransferEngine[Any]
    if transfer["backend"] == "shm":
        info = SharedMemoryTrainerInitInfo(rank=rank)
        trainer = SharedMemoryTrainer.trainer_init(info, client=client, source=source)
    else:
        from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo, NCCLTrainerWeightTransferEngine

        trainer = NCCLTrainerWeightTransferEngine.trainer_init(
            NCCLTrainerInitInfo(
                rank=rank,
                master_address=transfer["address"],
                master_port=transfer["port"],
                world_size=transfer["world_size"],
            ),
            client=client,
            source=source,
        )
    return Transfer(trainer, client)
