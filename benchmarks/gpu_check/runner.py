"""The stages one after another, each in a process of its own with a time limit, and the file that they fill."""

import argparse
import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu_check.models import SHAPES
from benchmarks.gpu_check.record import Check, Record, one_line
from rapo_ray.atomic import write_json_atomically
from rapo_ray.engines.environment import cpu_threads, engine_environment
from rapo_ray.errors import interrupt_on_sigterm

PACKAGES = ("torch", "transformers", "peft", "accelerate", "deepspeed", "openrlhf", "pydantic", "vllm", "ray", "triton")
LAST_CASE = 0.9  # of a stage's time, after which no case begins
KILLED = "stopped: killed"
CPU_CACHE_GIB = 1  # KV cache of an engine on CPU


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage's needs, and its share of the time beside the others that run."""

    needs: tuple[str, ...]
    share: float

    def missing(self) -> list[str]:
        """Packages that it needs and that are not installed."""
        return [name for name in self.needs if importlib.util.find_spec(name) is None]


STAGES = {  # `rapo_ray` brings nothing else that they import
    "core": Stage(("torch", "transformers"), 0.55),
    "policy": Stage(("torch", "transformers", "deepspeed", "openrlhf", "peft", "pydantic", "yaml"), 0.2),
    "engine": Stage(("torch", "transformers", "vllm"), 0.25),
}


def main(arguments: list[str] | None = None) -> int:
    """Run the check; returns 1 where our loss or gradients are not those of the usual update, else 0."""
    parser = argparse.ArgumentParser("python -m benchmarks.gpu_check", description=__doc__)
    parser.add_argument("--device", choices=("gpu", "cpu"), default="gpu", help="cpu is for shapes as small as `tiny`")
    parser.add_argument("--stages", nargs="+", choices=list(STAGES), default=list(STAGES))
    parser.add_argument("--shapes", nargs="+", choices=list(SHAPES), default=["1.7b", "8b"], help="the first of them "
                        "is that of the stages policy and engine")  # fmt: skip
    parser.add_argument("--tokens", nargs="+", type=int, default=[8192, 16384, 2048], help="of a sequence")
    parser.add_argument("--seconds", type=float, default=570, help="time limit of all stages together")
    parser.add_argument("--out", type=Path, default=Path("gpu-check.json"), help="file to write")
    parser.add_argument("--models", type=Path, help=argparse.SUPPRESS)  # of the processes that run one stage
    options = parser.parse_args(arguments)
    if options.models is not None:
        return run_stage(options)
    command = ["python", "-m", "benchmarks.gpu_check", *(sys.argv[1:] if arguments is None else arguments)]
    interrupt_on_sigterm()  # what `timeout` sends: the stage must not outlive the check
    write_json_atomically(options.out, {"command": " ".join(command), **machine(), "stages": {}})
    ends = time.monotonic() + options.seconds
    with tempfile.TemporaryDirectory(prefix="rapo-gpu-check-") as scratch:
        for number, name in enumerate(options.stages):
            record = Record(options.out, name)
            print(f"{name}: {conduct(record, options, number, ends, Path(scratch))}", flush=True)
    wrong = faults(json.loads(options.out.read_text(encoding="utf-8"))["stages"])
    print("\n".join([*wrong, f"written: {options.out}"]))
    return int(bool(wrong))


def faults(stages: dict[str, dict[str, Any]]) -> list[str]:
    """Everything that is wrong with the stages' figures; a stage whose packages are missing is no fault."""
    wrong = [
        f"{name}: {stage['why_not']}"
        for name, stage in stages.items()
        if stage["why_not"] and not stage["why_not"].endswith("not installed")
    ]
    core, policy, engine = (stages.get(name, {}) for name in ("core", "policy", "engine"))
    for item in core.get("agreement", []):
        if item["within"] is not True:
            wrong.append(f"core: {item['way']} in {item['dtype']} disagrees: {item['why_not'] or 'see the file'}")
    if policy.get("agrees") is False:
        wrong.append("policy: log-probs are not those of the reference")
    if engine.get("weights_held") != engine.get("weights"):
        wrong.append("engine: it does not hold the weights that it was sent")
    return wrong


def machine() -> dict[str, object]:
    """The card, its driver, versions of all packages that are present, and the commit."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    card, driver, memory = [*output_of(query).splitlines()[:1], ", , "][0].split(", ")
    return {
        "card": card,
        "driver": driver,
        "card_memory": memory,
        "python": platform.python_version(),
        "packages": versions(),
        "commit": output_of(["git", "rev-parse", "HEAD"]).strip(),
    }


def versions() -> dict[str, str]:
    """Versions of the packages that can be imported; vllm's own name differs on CPU."""
    names = importlib.metadata.packages_distributions()
    present = [name for name in PACKAGES if importlib.util.find_spec(name) and name in names]
    return {name: importlib.metadata.version(names[name][0]) for name in present}


def output_of(command: list[str]) -> str:
    """Output of a command; nothing where there is no such command, or it fails."""
    if shutil.which(command[0]) is None:
        return ""
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def conduct(record: Record, options: argparse.Namespace, number: int, ends: float, scratch: Path) -> str:
    """Run one stage in a process of its own; returns the line that says what ran, or why not."""
    stage, started = STAGES[record.stage], time.monotonic()
    if missing := stage.missing():
        return noted(record, f"not run: {' and '.join(missing)} not installed")
    ahead = [STAGES[name].share for name in options.stages[number:] if not STAGES[name].missing()]
    limit = (ends - started) * stage.share / sum(ahead)
    record.add(why_not=KILLED)  # until it ends by itself
    code, last_line = spawn(record, options, limit, scratch)
    seconds, why_not = time.monotonic() - started, record.read()["why_not"]
    if code is None:
        why_not = f"stopped: its {limit:.0f} s were over"
    elif why_not == KILLED:
        why_not = f"failed: exit status {code}: {last_line}"
    return noted(record, why_not, seconds)


def noted(record: Record, why_not: str | None, seconds: float = 0.0) -> str:
    """Record how a stage ended, and put it in a line."""
    record.add(why_not=why_not, stage_seconds=round(seconds, 1))
    return why_not or f"ran, {seconds:.0f} s"


def spawn(record: Record, options: argparse.Namespace, limit: float, scratch: Path) -> tuple[int | None, str]:
    """Run a stage's process; returns its exit status, None where its time was over, and its last line of errors."""
    command = [
        sys.executable, "-m", "benchmarks.gpu_check", "--stages", record.stage, "--device", options.device,
        "--shapes", *options.shapes, "--tokens", *map(str, options.tokens), "--seconds", str(limit),
        "--out", str(options.out), "--models", str(scratch),
    ]  # fmt: skip
    env = os.environ | engine_environment(options.device, cpu_threads(options.device, 1), CPU_CACHE_GIB)
    if options.device == "cpu":
        env["CUDA_VISIBLE_DEVICES"] = ""
    errors = scratch / f"{record.stage}.err"
    with errors.open("w") as file:
        process = subprocess.Popen(command, env=env, stderr=file, start_new_session=True)
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    lines = [line for line in errors.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    if code != 0:
        print("\n".join(lines[-20:]), file=sys.stderr)
    return code, lines[-1].strip() if lines else ""


def run_stage(options: argparse.Namespace) -> int:
    """Run one stage in this process."""
    (name,) = options.stages
    record = Record(options.out, name)
    ends = time.monotonic() + LAST_CASE * options.seconds
    check = Check(tuple(options.shapes), tuple(options.tokens), options.device, options.models, ends)
    import torch

    if check.on_gpu and not torch.cuda.is_available():
        record.add(why_not="not run: no GPU")
        return 0
    try:
        importlib.import_module(f"benchmarks.gpu_check.{name}").run(check, record)
    except Exception as error:
        traceback.print_exc()
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        record.add(why_not=f"not run: {missing} not installed" if missing else f"failed: {one_line(error)}")
        return 1
    record.add(why_not=None)
    return 0
