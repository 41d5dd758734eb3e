"""A cluster of several Ray nodes on this machine."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

RAY = str(Path(sys.executable).with_name("ray"))


@contextmanager
def ray_nodes(count: int, cpus: int = 2) -> Iterator[dict[str, str]]:
    """Start a head without room for actors, and `count` nodes; yields the environment of drivers that join.

    The cluster starts in this process, where Ray keeps the first token that it read: the user's own, as in all tests
    that start Ray in-process.
    """
    subprocess.run([RAY, "get-auth-token", "--generate"], check=True, capture_output=True, timeout=120)
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        for _ in range(count):
            cluster.add_node(num_cpus=cpus)
        yield {"RAY_AUTH_MODE": "token", "RAY_ADDRESS": cluster.address}
    finally:
        cluster.shutdown()
