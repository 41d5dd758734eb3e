"""The chaos suite's fault that every test run injects: an engine is killed while it generates."""

import signal
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.faults import SETTINGS, Recovered, actors, running, same_end, send
from tests.e2e.conftest import Cluster, tiny_recipe, train

pytestmark = pytest.mark.e2e


@pytest.mark.fault(1)
def test_an_engine_is_killed_while_it_generates(
    tiny: Path, warmed: dict[str, Any], cluster: Cluster, tmp_path: Path, recovered: Recovered
) -> None:
    whole = train(tiny_recipe(tiny, tmp_path / "whole", **SETTINGS, **warmed), joining=cluster)
    assert whole.returncode == 0, whole.stdout + whole.stderr
    recipe = tiny_recipe(tiny, tmp_path / "disturbed", **SETTINGS, **warmed)
    with running(recipe, cluster) as run:
        run.until_round(1)
        send(actors("RolloutActor", cluster)[0], signal.SIGKILL)
        recovered.detected = run.until_printed("was lost")
        recovered.back = recovered.detected + run.until_printed("is back")
        assert run.wait() == 0, run.output
        assert run.output.count("was lost") == 1
        recovered.lost_work = run.output.split("is back; ")[1].split(" completions")[0] + " completions"
    same_end(run.folder, tmp_path / "whole" / "tiny")
