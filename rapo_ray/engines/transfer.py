"""The policy's side of vLLM's weight transfer: shared memory on CPUs, CUDA IPC on GPUs that policy and engines share,
NCCL between GPUs of their own. The two for GPUs are unverified on a GPU.
"""

import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ray
from vllm.distributed.weight_transfer.base import (
    ParamMeta,
    TrainerWeightTransferEngine,
    WeightSource,
    WeightTransferUpdatePayload,
)

from rapo_ray.engines.memory import IPC_BUFFER_BYTES
from rapo_ray.engines.shared_memory import FOLDER, PolicySource, SharedMemoryTrainer, SharedMemoryTrainerInitInfo
from rapo_ray.errors import PlacementError


class EnginesClient:
    """A vLLM weight-sync client over Ray: each call goes to all its engines at once and waits for all of them.

    After a call of an update has failed, the others do nothing: the sender goes through its weights as before, since
    other ranks gather them with it, and `failure` is raised at the end.
    """

    def __init__(self, engines: list[Any], timeout: float, workers_per_engine: int = 1) -> None:
        self._engines = engines
        self._timeout = timeout
        self._workers = workers_per_engine
        self.version = 0
        self.failure: Exception | None = None
        self.abort: Callable[[], None] = lambda: None  # ends a broadcast that waits for an engine in vain

    @property
    def world_size(self) -> int:
        """Members of a group of rank 0 and the workers of all its engines."""
        return 1 + len(self._engines) * self._workers

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

    def check_sees(self, path: Path) -> None:
        """Raise PlacementError where an engine has no such file on its host."""
        misses = ray.get([engine.misses.remote(path) for engine in self._engines], timeout=self._timeout)
        for engine in filter(None, misses):
            raise PlacementError(
                f"{engine} does not share {path.parent} with policy-0 on node {ray.util.get_node_ip_address()}, and on "
                "CPUs the weights travel through it: give one host the CPUs for policy and engines, or use GPUs"
            )

    def _on_all(self, call: Callable[[Any], Any]) -> None:
        if self.failure is not None:
            return
        try:
            ray.get([call(engine) for engine in self._engines], timeout=self._timeout)
        except Exception as error:
            self.failure = error
            self.abort()


Opener = Callable[[EnginesClient], "TrainerWeightTransferEngine[Any]"]


class Transfer:
    """The weight transfer from this rank to the engines, on rank 0 opened anew where its members are not the targets.

    A group takes no new member and does without none, so it serves only the very processes that it was opened with.
    """

    def __init__(self, rank: int, engines: list[Any], workers: int, timeout: float, opener: Opener) -> None:
        self._rank = rank
        self._engines = engines
        self._workers = workers
        self._timeout = timeout
        self._opener = opener
        self._trainer: TrainerWeightTransferEngine[Any] | None = None
        self._members: list[Any] = []  # processes of the open group's engines, on rank 0, which alone joins it
        self._connect(engines)

    def send(self, version: int, engines: list[int] | None) -> None:
        """Send all weights as `version` to these engines, or to all; called on all ranks together, each of which goes
        through all weights whatever fails.
        """
        targets = self._engines if engines is None else [self._engines[index] for index in engines]
        try:
            if self._rank == 0 and self._members != self._processes(targets):
                self._connect(targets)
        except Exception as error:
            self._client.failure = error
        members, self._members = self._members, []  # a failure leaves engines within an update, or a broken group
        self._client.version = version
        assert self._trainer is not None
        self._trainer.send_weights()
        if self._client.failure is not None:
            raise self._client.failure
        self._members = members

    def _connect(self, targets: list[Any]) -> None:
        _close_group(self._trainer)
        members = self._processes(targets) if self._rank == 0 else []
        client = EnginesClient(targets, self._timeout, self._workers)
        trainer = self._opener(client)
        client.abort = lambda: _close_group(trainer)
        self._client, self._trainer, self._members = client, trainer, members

    def _processes(self, targets: list[Any]) -> list[Any]:
        """Node and process of each engine, which another one has after a restart."""
        return list(ray.get([engine.process_address.remote() for engine in targets], timeout=self._timeout))


def _close_group(trainer: "TrainerWeightTransferEngine[Any] | None") -> None:
    """Abort the NCCL communicator of a transfer that has one; vLLM itself only drops its reference."""
    group = getattr(trainer, "model_update_group", None)
    if group is not None:
        group.destroy()


def open_transfer(
    policy: Any,
    rank: int,
    engines: list[Any],
    backend: str,
    workers: int,
    dtype: str,
    timeout: float,
    rendezvous: Callable[[], tuple[str, int]],
) -> Transfer:
    """Open the transfer by shm, ipc or nccl to engines of `workers` workers each; raises PlacementError.

    `rendezvous` gives rank 0's address and a free port for each nccl group.
    """
    source = PolicySource(policy, dtype)

    def opener(client: EnginesClient) -> "TrainerWeightTransferEngine[Any]":
        if backend == "shm":
            return _open_shm(client, source, rank)
        if backend == "ipc":
            return _open_ipc(client, source, rank)
        return _open_nccl(client, source, rank, *rendezvous())

    return Transfer(rank, engines, workers, timeout, opener)


def _open_shm(client: EnginesClient, source: WeightSource, rank: int) -> "TrainerWeightTransferEngine[Any]":
    if rank == 0:
        with tempfile.NamedTemporaryFile(prefix="rapo-probe-", dir=FOLDER) as probe:
            client.check_sees(Path(probe.name))
    return SharedMemoryTrainer.trainer_init(SharedMemoryTrainerInitInfo(rank=rank), client=client, source=source)


def _open_ipc(client: EnginesClient, source: WeightSource, rank: int) -> "TrainerWeightTransferEngine[Any]":
    from vllm.distributed.weight_transfer.ipc_engine import IPCTrainerInitInfo, IPCTrainerWeightTransferEngine

    # The handles travel as plain values in Ray's arguments; packing copies each tensor into the buffer on the rank's
    # card, from host memory too.
    info = IPCTrainerInitInfo(rank=rank, packed=True, packed_buffer_size_bytes=ipc_buffer_bytes(source.metadata()))
    return IPCTrainerWeightTransferEngine.trainer_init(info, client=client, source=source)


def ipc_buffer_bytes(parameters: Sequence[ParamMeta]) -> int:
    """Bytes of the buffer that a card's rank shares with its engine; vLLM takes no tensor that is larger."""
    return max(IPC_BUFFER_BYTES, *(each.dtype.itemsize * math.prod(each.shape) for each in parameters))


def _open_nccl(
    client: EnginesClient, source: WeightSource, rank: int, address: str, port: int
) -> "TrainerWeightTransferEngine[Any]":
    from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo, NCCLTrainerWeightTransferEngine

    info = NCCLTrainerInitInfo(rank=rank, master_address=address, master_port=port, world_size=client.world_size)
    return NCCLTrainerWeightTransferEngine.trainer_init(info, client=client, source=source)
