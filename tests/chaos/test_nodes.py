"""Nodes that disappear: the run goes on with what is left, and ends where it would have."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.chaos.conftest import SETTINGS
from tests.chaos.faults import Recovered, actors, running, same_end, send
from tests.e2e.conftest import Cluster, tiny_recipe

pytestmark = pytest.mark.chaos


@pytest.fixture
def nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A head without room for actors, and three nodes."""
    token = tmp_path / "token"
    token.write_text("0123456789abcdef" * 4)
    token.chmod(0o600)
    tokens = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    for name, value in tokens.items():
        monkeypatch.setenv(name, value)
    from ray.cluster_utils import Cluster as Nodes

    made = Nodes(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        for _ in range(3):
            made.add_node(num_cpus=2)
        yield Cluster("", {**tokens, "RAY_ADDRESS": made.address})
    finally:
        made.shutdown()


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
        raylet = psutil.Process(actors(kind)[0].ppid())
        assert "raylet" in raylet.name()
        send(raylet, signal.SIGKILL)
        recovered.detected = run.until(
            lambda: "was lost" in run.output or "starting over" in run.output, "a word about the node"
        )
        assert run.ends() == 0, run.output
    recovered.lost = f"the node of {kind}"
    same_end(run.folder, undisturbed)
