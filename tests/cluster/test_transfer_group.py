"""The weight transfer's group of engines: opened anew around a lost one, never used with other members than its own.

vLLM's own trainer and real processes over gloo, which stands in for nccl; an engine's workers are threads.
"""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from ray.exceptions import RayActorError

from actors.policy import PolicyActor
from actors.ray_calls import ActorHandle, ProcessAddress, get_all, process_address, wait_until_back
from actors.rollout import RolloutActor
from actors.spawn import weight_backend
from rapo_ray.config import RunConfig
from rapo_ray.config.learning import PolicyConfig
from rapo_ray.errors import PlacementError
from tests.ports import free_port

pytestmark = pytest.mark.cluster

ENGINES = 3
SHAPES = {"embed": (5, 3), "head": (7,)}


class GlooGroup:
    """A communicator that waits for its members without end, as one of NCCL does, until it is destroyed."""

    def __init__(self, address: str, port: int, rank: int, size: int) -> None:
        from torch.distributed import ProcessGroupGloo, TCPStore

        store = TCPStore(address, port, size, is_master=rank == 0, timeout=timedelta(seconds=60))
        options = ProcessGroupGloo._Options()
        options._devices = [ProcessGroupGloo.create_device(hostname="127.0.0.1")]
        options._timeout = timedelta(seconds=60)
        self._group = ProcessGroupGloo(store, rank, size, options)
        self._store = store
        self.destroyed = False

    def broadcast(self, tensor: torch.Tensor, src: int) -> None:
        """Send or receive a tensor."""
        if not self.destroyed:
            options = torch.distributed.BroadcastOptions()
            options.rootRank = src
            work = self._group.broadcast([tensor], options)
            while not (work.is_completed() or self.destroyed):
                time.sleep(0.001)

    def destroy(self) -> None:
        """End what waits."""
        self.destroyed = True


@ray.remote(num_cpus=0.1, max_restarts=-1, max_concurrency=4)
class Engine:
    """An engine that notes each opening, and takes weights as vLLM's nccl workers do."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._groups: list[GlooGroup] = []
        self._state: dict[str, Any] = {"openings": [], "version": -1, "weights": []}
        self._dies = False

    def ready(self) -> None:
        """Answers once it runs."""

    def process_address(self) -> ProcessAddress:
        """Its node and process."""
        return process_address()

    def init_weight_transfer(self, info: dict[str, Any]) -> None:
        """Join with one rank a worker."""
        address, port, size = info["master_address"], info["master_port"], info["world_size"]
        ranks = [info["rank_offset"] + worker for worker in range(self._workers)]
        with ThreadPoolExecutor(self._workers) as threads:
            self._groups = list(threads.map(lambda rank: GlooGroup(address, port, rank, size), ranks))
        self._state["openings"].append({"ranks": ranks, "size": size, "port": port})

    def die_in_the_next_update(self) -> None:
        """End the process when weights come."""
        self._dies = True

    def start_weight_update(self) -> None:
        """Refuse an update without a group."""
        assert self._groups, "no group was opened with this process"

    def update_weights(self, info: dict[str, Any]) -> None:
        """Receive every tensor on every worker."""
        if self._dies:
            os._exit(1)

        def receive(group: GlooGroup) -> dict[str, list[float]]:
            weights = {name: torch.empty(shape) for name, shape in zip(info["names"], info["shapes"], strict=True)}
            for tensor in weights.values():
                group.broadcast(tensor, src=0)
            return {name: tensor.flatten().tolist() for name, tensor in weights.items()}

        with ThreadPoolExecutor(self._workers) as threads:
            self._state["weights"] = list(threads.map(receive, self._groups))

    def finish_weight_update(self, version: int) -> None:
        """Note the version."""
        self._state["version"] = version

    def state(self) -> dict[str, Any]:
        """Openings, version and the weights of each worker."""
        return self._state


class Policy:
    """Weights that are all equal to `value`, and how often they were gone through to the end."""

    def __init__(self) -> None:
        self.value = 0.0
        self.passes = 0

    def weights(self, dtype: str) -> Iterator[tuple[str, torch.Tensor]]:
        """All weights."""
        for name, shape in SHAPES.items():
            yield name, torch.full(shape, self.value)
        self.passes += 1

    def weights_metadata(self) -> list[tuple[str, tuple[int, ...]]]:
        """Names and shapes."""
        return list(SHAPES.items())


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray.init(num_cpus=4, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.fixture
def gloo_for_nccl(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let vLLM's nccl trainer, all but its communicator, run on CPU."""
    from vllm.distributed.weight_transfer import nccl_engine

    def endpoint(info: Any) -> GlooGroup:
        return GlooGroup(info.master_address, info.master_port, 0, info.world_size)

    def broadcast(trainer: Any, source: Any, meta: Any) -> None:
        for _, tensor in trainer._checked_iter(source, meta):
            trainer.model_update_group.broadcast(tensor, src=0)

    monkeypatch.setattr(nccl_engine, "open_trainer_endpoint", endpoint)
    monkeypatch.setattr(nccl_engine.NCCLTrainerWeightTransferEngine, "_broadcast", broadcast)


class Fleet:
    """Three engines and a transfer to them."""

    def __init__(self, workers: int) -> None:
        from rapo_ray.engines.transfer import open_transfer

        self.policy = Policy()
        self.engines: list[ActorHandle] = [Engine.remote(workers) for _ in range(ENGINES)]
        get_all([engine.ready.remote() for engine in self.engines], 120.0, "engines", "")
        arguments = ("nccl", workers, "float32", 120.0, lambda: ("127.0.0.1", free_port()))
        self.transfer = open_transfer(self.policy, 0, self.engines, *arguments)

    def send(self, version: int, engines: list[int] | None = None) -> None:
        """Send weights that equal the version."""
        self.policy.value = float(version)
        self.transfer.send(version, engines)

    def lose(self, index: int) -> None:
        """Kill an engine, and wait until Ray has started it again."""
        _, process = ray.get(self.engines[index].process_address.remote(), timeout=120)
        os.kill(process, signal.SIGKILL)  # it cannot answer any more, as after a `ray.kill`
        wait_until_back(self.engines[index], f"rollout-{index}", 120.0)

    def states(self) -> list[dict[str, Any]]:
        """Notes of each engine."""
        return get_all([engine.state.remote() for engine in self.engines], 60.0, "states", "")


def holds(state: dict[str, Any], version: int, workers: int) -> bool:
    """True where every worker of an engine has exactly the weights of a version."""
    weights = [{"embed": [float(version)] * 15, "head": [float(version)] * 7}] * workers
    return bool(state["version"] == version and state["weights"] == weights)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_lost_engine_gets_a_group_of_its_own_and_the_next_full_send_one_of_all(
    cluster: None, gloo_for_nccl: None, workers: int
) -> None:
    fleet = Fleet(workers)
    whole = 1 + ENGINES * workers
    ranks = [list(range(1 + index * workers, 1 + (index + 1) * workers)) for index in range(ENGINES)]
    fleet.send(1)
    fleet.send(2)
    first = fleet.states()
    assert [state["openings"] for state in first] == [
        [{"ranks": own, "size": whole, "port": first[0]["openings"][0]["port"]}] for own in ranks
    ]
    assert all(holds(state, 2, workers) for state in first)

    fleet.lose(1)
    fleet.send(2, [1])
    resent = fleet.states()
    assert [len(state["openings"]) for state in resent] == [1, 1, 1]
    assert resent[0] == first[0], "a resend to another engine concerned this one"
    assert resent[1]["openings"][0]["ranks"] == list(range(1, 1 + workers))
    assert resent[1]["openings"][0]["size"] == 1 + workers
    assert holds(resent[1], 2, workers)

    fleet.send(3)
    fleet.send(4)
    last = fleet.states()
    assert [len(state["openings"]) for state in last] == [2, 2, 2]
    assert [state["openings"][-1]["ranks"] for state in last] == ranks
    assert {state["openings"][-1]["size"] for state in last} == {whole}
    assert all(holds(state, 4, workers) for state in last)
    ports = {opening["port"] for state in [*first, *resent, *last] for opening in state["openings"]}
    assert len(ports) == 3


def test_an_engine_that_restarted_unnoticed_is_never_sent_to_by_the_old_group(
    cluster: None, gloo_for_nccl: None
) -> None:
    fleet = Fleet(1)
    fleet.lose(2)
    fleet.send(1)
    states = fleet.states()
    assert [len(state["openings"]) for state in states] == [2, 2, 1]
    assert all(holds(state, 1, 1) for state in states)


def test_an_engine_lost_during_a_broadcast_ends_the_wait_and_the_next_send_opens_a_group(
    cluster: None, gloo_for_nccl: None
) -> None:
    fleet = Fleet(1)
    ray.get(fleet.engines[1].die_in_the_next_update.remote())
    with pytest.raises(RayActorError):
        fleet.send(1)
    assert fleet.policy.passes == 1, "ranks that gather these weights with this one would wait for it"
    for index in range(ENGINES):  # as actors/rollout_group.py does: the others wait within the broadcast
        if index != 1:
            fleet.lose(index)
    wait_until_back(fleet.engines[1], "rollout-1", 120.0)
    fleet.send(1)
    states = fleet.states()
    assert {state["openings"][-1]["size"] for state in states} == {1 + ENGINES}
    assert all(holds(state, 1, 1) for state in states)


def test_a_send_to_an_engine_that_is_gone_still_goes_through_the_weights(cluster: None, gloo_for_nccl: None) -> None:
    fleet = Fleet(1)
    ray.kill(fleet.engines[1], no_restart=True)
    with pytest.raises(RayActorError):
        fleet.send(1)
    assert fleet.policy.passes == 1


class Blind(RolloutActor):
    """An engine on a host with other files."""

    def __init__(self, name: str) -> None:
        self._name = name

    def misses(self, path: Path) -> str | None:
        """Look for a file that is not there."""
        return super().misses(path.with_name("elsewhere"))


class Sighted(Blind):
    """An engine on the policy's host, perhaps as another Ray node."""

    def misses(self, path: Path) -> str | None:
        """Look for the file itself."""
        return RolloutActor.misses(self, path)

    def process_address(self) -> ProcessAddress:
        """Its node and process."""
        return process_address()

    def init_weight_transfer(self, init_info: dict[str, Any]) -> None:
        """Take note of nothing."""


class Connecting(PolicyActor):
    """A policy rank without a model."""

    _policy: Any = None


def test_an_engine_that_does_not_share_memory_with_the_policy_is_refused(cluster: None) -> None:
    small = {"num_cpus": 0.1}
    sighted = ray.remote(**small)(Sighted).remote("rollout-0")
    blind = ray.remote(**small)(type("Blinded", (Sighted,), {"misses": Blind.misses})).remote("rollout-1")
    rank = ray.remote(**small)(Connecting).remote("policy-0", PolicyConfig(), 0, "cpu")

    def connect(engines: list[ActorHandle]) -> None:
        get_all([rank.connect_engines.remote(engines, "shm", 1, "float32", 60.0)], 60.0, "connecting", "limits.start")

    connect([sighted])
    node = ray.util.get_node_ip_address()
    with pytest.raises(PlacementError) as refused:
        connect([sighted, blind])
    assert str(refused.value) == (
        f"rollout-1 on node {node} does not share /dev/shm with policy-0 on node {node}, and on CPUs the weights "
        "travel through it: give one host the CPUs for policy and engines, or use GPUs"
    )
    assert not list(Path("/dev/shm").glob("rapo-probe-*"))


@pytest.mark.parametrize(
    ("settings", "backend"),
    [
        ({"cluster": {"device": "cpu"}}, "shm"),
        ({"cluster": {"device": "gpu"}}, "nccl"),
        ({"cluster": {"device": "gpu"}, "rollout": {"colocate": True}}, "ipc"),
    ],
)
def test_weights_travel_as_the_layout_demands(settings: dict[str, Any], backend: str) -> None:
    assert weight_backend(RunConfig.model_validate(settings)) == backend


def test_the_shared_buffer_holds_the_largest_weight() -> None:
    from vllm.distributed.weight_transfer.base import ParamMeta

    from rapo_ray.engines.transfer import IPC_BUFFER_BYTES, ipc_buffer_bytes

    norm = ParamMeta("norm", torch.bfloat16, (4096,))
    embedding = ParamMeta("embed", torch.bfloat16, (151_936, 4096))  # Qwen3-8B: 1.2 GB
    assert ipc_buffer_bytes([norm]) == IPC_BUFFER_BYTES
    assert ipc_buffer_bytes([norm, embedding]) == 2 * 151_936 * 4096
