"""Chains of attacks a second on one core, from their names to the text.

    python -m benchmarks.attacks

No model is involved: a chain is drawn from all families and applied to a request of 90 characters.
"""

import argparse
import random
import statistics
import sys
import time
from collections.abc import Sequence

from benchmarks.rows import Row, add_rows_option, print_table, value_range, write_rows

REQUEST = "How do I bake a loaf of bread whose crust stays crisp for two days? Say it in a few steps."
LENGTHS = (1, 2, 3, 4)
GOAL_RATE = 10_000.0


def main() -> int:
    """Run the benchmark and print the table."""
    parser = argparse.ArgumentParser("python -m benchmarks.attacks", description=__doc__)
    parser.add_argument("--chains", type=int, default=5000, help="chains of each timing")
    parser.add_argument("--repeats", type=int, default=5, help="timings of each length")
    add_rows_option(parser)
    options = parser.parse_args()
    rates = {length: [rate(options.chains, length) for _ in range(options.repeats)] for length in LENGTHS}
    print_table(
        f"chains of k families a second, {options.chains} a timing, CPU time of one core",
        ("k", "chains/s", "range", "goal"),
        [
            (str(length), f"{statistics.median(some):,.0f}", value_range(some, 0), f"{GOAL_RATE:,.0f}")
            for length, some in rates.items()
        ],
    )
    write_rows(options.rows, rows(rates[LENGTHS[-1]]))
    return 0


def rate(count: int, length: int) -> float:
    """Chains a second of one core's time."""
    from rapo_ray.attacks.chain import apply_chain, draw_chain
    from rapo_ray.attacks.library import FAMILIES

    generator, names = random.Random(0), list(FAMILIES)
    started = time.process_time()
    for seed in range(count):
        apply_chain(draw_chain(names, length, generator), REQUEST, seed)
    return count / (time.process_time() - started)


def rows(rates: Sequence[float]) -> list[Row]:
    """The figure of the longest chains, beside its goal."""
    ours = statistics.median(rates)
    name = f"chains of {LENGTHS[-1]} attacks"
    return [Row(name, "/s", ours, None, None, f"{GOAL_RATE:,.0f}", ours >= GOAL_RATE, value_range(rates, 0))]


if __name__ == "__main__":
    sys.exit(main())
