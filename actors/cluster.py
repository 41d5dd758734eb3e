"""Joining or starting the Ray cluster, always with token authentication."""

import gc
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from rapo_ray.config.run import ClusterConfig
from rapo_ray.errors import PlacementError

# A large round is millions of objects without a cycle; at Python's pace (700, 10, 10) the driver looks through them
# again and again.
GARBAGE_PACE = (100_000, 50, 100)


@contextmanager
def ray_cluster(config: ClusterConfig) -> Iterator[list[dict[str, float]]]:
    """Join the cluster of the config or of RAY_ADDRESS, or start a local one; yields the resources of each node.

    Raises PlacementError where there is no cluster at the address.
    """
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")  # an actor without GPUs sees none
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    import ray

    # "local" where nobody named one: Ray would look for what a killed `ray start` left behind, and wait for it.
    address = config.address or os.environ.get("RAY_ADDRESS") or "local"
    on_terminate = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = "a new local cluster" if address == "local" else address
        raise PlacementError(f"cannot join {where}: {' '.join(str(error).split())[:300]}") from error
    if on_terminate is not None:
        signal.signal(signal.SIGTERM, on_terminate)  # Ray's own handler aborts the process
    pace = gc.get_threshold()
    gc.set_threshold(*GARBAGE_PACE)
    try:
        yield [node["Resources"] for node in ray.nodes() if node["Alive"]]
    finally:
        gc.set_threshold(*pace)
        ray.shutdown()
