"""The undisturbed reference run, and the fixtures of the end-to-end tests."""

from pathlib import Path
from typing import Any

import pytest

from tests.chaos.faults import SETTINGS
from tests.e2e.conftest import Cluster, cluster, finished, tiny, tiny_recipe, train, warmed

__all__ = ["cluster", "finished", "tiny", "warmed"]


@pytest.fixture(scope="session")
def undisturbed(tiny: Path, warmed: dict[str, Any], cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run without any fault."""
    out = tmp_path_factory.mktemp("undisturbed")
    done = train(tiny_recipe(tiny, out, **SETTINGS, **warmed), joining=cluster)
    assert done.returncode == 0, done.stdout + done.stderr
    return out / "tiny"
