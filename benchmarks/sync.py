"""Weight sync from the policy to two engines: seconds in buckets, beside one call per parameter.

python -m benchmarks.sync
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.floor import copy_rate, count_parameters
from benchmarks.rows import Row, add_rows_option, print_table, value_range, write_rows

GOAL_SECONDS, GOAL_RATIO = 0.5, 10.0
WAYS = ("in buckets", "one call per parameter")


def main() -> int:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser("python -m benchmarks.sync", description=__doc__)
    parser.add_argument("--model", default="embedded:smollm2-135m", help="model whose weights are sent")
    parser.add_argument("--engines", type=int, default=2, help="engines that receive them")
    parser.add_argument("--repeats", type=int, default=9, help="timed syncs")
    add_rows_option(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        seconds_by_way, loading = measure(options, Path(scratch))
    floor = lower_bound(options)
    medians = {way: statistics.median(seconds) for way, seconds in seconds_by_way.items()}
    peer = medians[WAYS[1]]
    print_table(
        f"weights of {options.model} to {options.engines} engines",
        ("", "seconds", "spread", "speed-up"),
        [(way, f"{medians[way]:.2f}", value_range(seconds_by_way[way], 2), f"{peer / medians[way]:.1f}")
         for way in WAYS],
    )  # fmt: skip
    ours, ratio = medians[WAYS[0]], peer / medians[WAYS[0]]
    print(f"in buckets: the engines load for {loading:.2f} s; gathering and writing take {ours - loading:.2f} s")
    rows = [
        Row("weight sync to two engines", "s", ours, None, None, f"{GOAL_SECONDS} s", ours <= GOAL_SECONDS,
            value_range(seconds_by_way[WAYS[0]], 2), f"{floor:.2f} s of copying"),
        Row("weight sync, beside a call a parameter", "s", ours, peer, ratio, f"{GOAL_RATIO:.0f} x",
            ratio >= GOAL_RATIO, value_range(seconds_by_way[WAYS[1]], 2)),
    ]  # fmt: skip
    write_rows(options.rows, rows)
    return 0


def lower_bound(options: argparse.Namespace) -> float:
    """Seconds to copy the weights out once and into each engine once, with all cores."""
    from rapo_ray.config.base import cpu_dtype
    from rapo_ray.models.resolve import resolve_model

    size = 2 if cpu_dtype() == "bfloat16" else 4
    return (1 + options.engines) * size * count_parameters(Path(resolve_model(options.model))) / copy_rate()


def measure(options: argparse.Namespace, scratch: Path) -> tuple[dict[str, list[float]], float]:
    """Measure the seconds of each sync, alternating between both ways, and the engines' loading time."""
    from actors.cluster import ray_cluster
    from rapo_ray.config.load import load_config
    from rapo_ray.models.resolve import resolve_model

    overrides = [f"model.path={options.model}", f"rollout.engines={options.engines}", f"out={scratch}"]
    config = load_config("quickstart", overrides)
    model = Path(resolve_model(options.model))
    with ray_cluster(config.cluster):
        from actors import spawn
        from actors.placement import plan
        from actors.policy import PolicyActor

        class Bucketed(PolicyActor):
            """A policy with a settable bucket size (0 sends each parameter by itself) that times its engine calls."""

            def __init__(self, *arguments: Any) -> None:
                from rapo_ray.engines import transfer

                self.waited = 0.0
                on_all = transfer.EnginesClient._on_all

                def timed_on_all(client: Any, call: Any) -> None:
                    started = time.perf_counter()
                    on_all(client, call)
                    self.waited += time.perf_counter() - started

                transfer.EnginesClient._on_all = timed_on_all  # type: ignore[method-assign]
                super().__init__(*arguments)

            def set_bucket(self, size: int) -> float:
                """Set the bucket size; returns the seconds spent waiting for engines since the previous call."""
                from rapo_ray.engines import shared_memory

                shared_memory.BUCKET_BYTES = size
                waited, self.waited = self.waited, 0.0
                return waited

        spawn.PolicyActor = Bucketed  # type: ignore[misc]
        spawner = spawn.Spawner(config, plan(config))
        try:
            rollouts, judges = spawner.start_inference(model, {})
            policy, _, weights = spawner.start_training(model, rollouts, judges)
            return turns(policy, weights, options.repeats)
        finally:
            spawner.close()


def turns(policy: Any, weights: Any, repeats: int) -> tuple[dict[str, list[float]], float]:
    """Time both ways in turn, under the same machine conditions; also the engines' loading time in buckets."""
    from rapo_ray.engines.shared_memory import BUCKET_BYTES

    sizes = dict(zip(WAYS, (BUCKET_BYTES, 0), strict=True))
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    loading = []
    weights.sync(0)  # warm-up
    for number in range(1, repeats + 1):
        for way, size in sizes.items():
            policy._on_all("set_bucket", size)
            started = time.perf_counter()
            weights.sync(number)
            seconds[way].append(time.perf_counter() - started)
            if way == WAYS[0]:
                loading += policy._on_all("set_bucket", size)
    return seconds, statistics.median(loading)


if __name__ == "__main__":
    sys.exit(main())
