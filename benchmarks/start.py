"""Time from the command to the first judged completion: interpreter, cluster, engine and judge.

python -m benchmarks.start
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.rows import Row, add_rows_option, print_table, value_range, write_rows

GOAL = 30.0


def main() -> int:
    """Run the benchmark and print its figure."""
    parser = argparse.ArgumentParser("python -m benchmarks.start", description=__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="timed starts")
    add_rows_option(parser)
    options = parser.parse_args()
    seconds = [start() for _ in range(options.repeats + 1)][1:]  # the first fills the file cache
    median = statistics.median(seconds)
    title = "the command of README.md, until its first completion is judged"
    print_table(title, ("seconds", "spread", "goal"), [(f"{median:.1f}", value_range(seconds), f"{GOAL:.0f}")])
    row = Row("start to first rollout", "s", median, None, None, f"{GOAL:.0f} s", median <= GOAL, value_range(seconds))
    write_rows(options.rows, [row])
    return 0


def start() -> float:
    """Time one start of a run without SFT warm-up that evaluates one prompt."""
    with tempfile.TemporaryDirectory() as scratch:
        overrides = [
            f"out={scratch}", "name=start", "warmup.source=none", "rounds=0", "data.heldout=quickstart-heldout:1",
            "rollout.max_new_tokens=1",
        ]  # fmt: skip
        command = [sys.executable, "-m", "rapo_ray.train", "--config", "quickstart", *overrides]
        first = Path(scratch) / "start" / "heldout" / "base.parquet"
        started = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
            while not first.exists():
                if process.poll() is not None:
                    sys.exit(f"the run ended before its first completion:\n{process.communicate()[1][-2000:]}")
                time.sleep(0.02)
            seconds = time.perf_counter() - started
            process.terminate()
            process.communicate()
    return seconds


if __name__ == "__main__":
    sys.exit(main())
