"""Starting a cluster next to the stale address file of one that was killed."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.cluster

START = """
from actors.cluster import ray_cluster
from rapo_ray.config.run import ClusterConfig
with ray_cluster(ClusterConfig(device="cpu")) as nodes:
    print("CPUs", nodes[0]["CPU"])
"""


def test_a_cluster_that_was_killed_is_not_waited_for() -> None:
    with tempfile.TemporaryDirectory(prefix="rapo") as folder:  # short: a socket's path has at most 107 characters
        stale = Path(folder) / "ray" / "ray_current_cluster"  # where `ray start` writes its address
        stale.parent.mkdir()
        stale.write_text("127.0.0.1:1")
        env = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        done = subprocess.run(
            [sys.executable, "-c", START],
            env={**env, "RAY_TMPDIR": folder},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
    assert "CPUs" in done.stdout, done.stderr
