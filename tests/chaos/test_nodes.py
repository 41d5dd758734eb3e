"""Lost nodes: the run continues on the remaining ones and ends as it would have."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.chaos.faults import SETTINGS, Recovered, actors, running, same_end, send
from tests.e2e.conftest import Cluster, tiny_recipe
from tests.nodes import ray_nodes

pytestmark = pytest.mark.chaos


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Cluster]:
    """Start three nodes, one more than the run needs."""
    with ray_nodes(3) as env:
        yield Cluster("", env, tmp_path)


@pytest.mark.fault(15)
@pytest.mark.parametrize("kind", ["RolloutActor", "PolicyActor"])
def test_a_node_is_lost(
    tiny: Path,
    warmed: dict[str, Any],
    nodes: Cluster,
    undisturbed: Path,
    tmp_path: Path,
    recovered: Recovered,
    kind: str,
) -> None:
    recipe = tiny_recipe(
        tiny, tmp_path / "run", **SETTINGS, **warmed, cluster={"placement": "SPREAD"}, limits={"start": 120}
    )
    with running(recipe, nodes) as run:
        run.until_round(2)
        raylet = psutil.Process(actors(kind, nodes)[0].ppid())
        assert "raylet" in raylet.name()
        send(raylet, signal.SIGKILL)
        recovered.detected = run.until(
            lambda: "was lost" in run.output or "starting over" in run.output, "a message about the node"
        )
        assert run.wait() == 0, run.output
    recovered.lost_work = f"the node of {kind}"
    same_end(run.folder, undisturbed)
