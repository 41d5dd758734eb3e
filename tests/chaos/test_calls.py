"""Ray calls that fail now and then, by Ray's own fault injection: the same end as without."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.faults import SETTINGS, Recovered, running, same_end
from tests.e2e.conftest import Cluster, ray_head, tiny_recipe

pytestmark = pytest.mark.chaos

NOW_AND_THEN = {"num_failures": -1, "req_failure_prob": 5, "resp_failure_prob": 5}  # in 100
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
    """A cluster whose control plane fails one call in ten, and a driver two of whose calls of actors fail."""
    faults = dict.fromkeys(CONTROL, NOW_AND_THEN)
    calls = {**faults, "CoreWorkerService.grpc_client.PushTask": TWICE}
    with ray_head({"RAY_testing_rpc_failure": json.dumps(faults)}) as cluster:
        yield Cluster(cluster.dashboard, {**cluster.env, "RAY_testing_rpc_failure": json.dumps(calls)}, cluster.folder)


@pytest.mark.fault(19)
def test_calls_fail_now_and_then(
    tiny: Path, warmed: dict[str, Any], unreliable: Cluster, undisturbed: Path, tmp_path: Path, recovered: Recovered
) -> None:
    limits = {"start": 120, "restarts": 20}
    with running(tiny_recipe(tiny, tmp_path, **SETTINGS, **warmed, limits=limits), unreliable) as run:
        assert run.ends(500) == 0, run.output
        recovered.lost = f"{run.output.count('was lost')} engines, {run.output.count('starting over')} starts"
    same_end(run.folder, undisturbed)
