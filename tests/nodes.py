"""A cluster of several Ray nodes on this machine."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def ray_nodes(count: int, folder: Path, cpus: int = 2) -> Iterator[dict[str, str]]:
    """A head without room for actors, and `count` nodes; yields the environment of who joins."""
    token = folder / "token"
    token.write_text("0123456789abcdef" * 4)
    token.chmod(0o600)
    tokens = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    before = {name: os.environ.get(name) for name in tokens}
    os.environ.update(tokens)
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        for _ in range(count):
            made.add_node(num_cpus=cpus)
        yield {**tokens, "RAY_ADDRESS": made.address}
    finally:
        made.shutdown()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
