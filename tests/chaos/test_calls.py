"""Ray calls that fail intermittently, by Ray's own fault injection: the run ends as it does without faults."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.faults import SETTINGS, Recovered, running, same_end
from tests.e2e.conftest import Cluster, ray_head, tiny_recipe

pytestmark = pytest.mark.chaos

INTERMITTENT = {"num_failures": -1, "req_failure_prob": 5, "resp_failure_prob": 5}  # percent
CONTROL = (
    "NodeManagerService.grpc_client.RequestWorkerLease",
    "NodeManagerService.grpc_client.ReturnWorkerLease",
    "NodeManagerService.grpc_client.PrepareBundleResources",
    "NodeManagerService.grpc_client.CommitBundleResources",
    "CoreWorkerService.grpc_client.GetObjectStatus",
    "InternalKVGcsService.grpc_client.InternalKVGet",
    "ActorInfoGcsService.grpc_client.GetActorInfo",
)
TWICE = {"num_failures": 2, "req_failure_prob": 10, "resp_failure_prob": 10}


@pytest.fixture
def unreliable() -> Iterator[Cluster]:
    """Start a cluster whose control plane fails one call in ten, for a driver two of whose actor calls fail."""
    faults = dict.fromkeys(CONTROL, INTERMITTENT)
    calls = {**faults, "CoreWorkerService.grpc_client.PushTask": TWICE}
    with ray_head({"RAY_testing_rpc_failure": json.dumps(faults)}) as cluster:
        yield Cluster(cluster.dashboard, {**cluster.env, "RAY_testing_rpc_failure": json.dumps(calls)}, cluster.folder)


@pytest.mark.fault(19)
def test_calls_fail_intermittently(
    tiny: Path, warmed: dict[str, Any], unreliable: Cluster, undisturbed: Path, tmp_path: Path, recovered: Recovered
) -> None:
    limits = {"start": 120, "restarts": 20}
    with running(tiny_recipe(tiny, tmp_path, **SETTINGS, **warmed, limits=limits), unreliable) as run:
        assert run.wait(500) == 0, run.output
        recovered.lost_work = f"{run.output.count('was lost')} engines, {run.output.count('starting over')} starts"
    same_end(run.folder, undisturbed)
