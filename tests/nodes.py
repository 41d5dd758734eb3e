"""A cluster of several Ray nodes on this machine."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

RAY = str(Path(sys.executable).with_name("ray"))


@contextmanager
def ray_nodes(count: int, cpus: int = 2) -> Iterator[dict[str, str]]:
    """A head without room for actors, and `count` nodes; yields the environment of who joins.

    Started in this process, which keeps the token that Ray read first: so it is the user's own, as in all tests that
    start Ray here.
    """
    subprocess.run([RAY, "get-auth-token", "--generate"], check=True, capture_output=True, timeout=120)
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        for _ in range(count):
            made.add_node(num_cpus=cpus)
        yield {"RAY_AUTH_MODE": "token", "RAY_ADDRESS": made.address}
    finally:
        made.shutdown()
