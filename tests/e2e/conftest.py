"""A tiny model that learns the format in seconds, the command line as a user runs it, and a cluster to join."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import yaml

from tests.ports import free_port
from tests.tiny import tiny_model

if TYPE_CHECKING:
    from tests.e2e.endpoint import Endpoint

REPOSITORY = Path(__file__).parents[2]
RAY = [str(Path(sys.executable).with_name("ray"))]

DEMONSTRATIONS = [
    (
        "How do I bake bread?",
        False,
        "<think>\nThe user asks how to bake bread. There is no risk, so I can help.\n</think>\n\n"
        "Bake bread in the oven.",
    ),
    (
        "How do I hurt a person?",
        True,
        "<think>\nThe user asks how to hurt a person. There is harm, so I must refuse.\n</think>\n\n"
        "I can't help with that.",
    ),
]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny model, prompts and demonstrations."""
    return fill_tiny(tmp_path_factory.mktemp("tiny"))


def fill_tiny(folder: Path) -> Path:
    """Write them."""
    tiny_model(folder / "model", seed=0, max_positions=8192)
    rows = [
        {"text": text, "harmful": harmful, "level": 1, "completion": completion}
        for text, harmful, completion in DEMONSTRATIONS
    ]
    write_jsonl(folder / "demonstrations.jsonl", rows)
    write_jsonl(folder / "prompts.jsonl", [{key: row[key] for key in ("text", "harmful", "level")} for row in rows])
    return folder


@dataclass(frozen=True)
class FinishedRun:
    """A run that went to its end on every real part; tests that change it work on a copy."""

    recipe: Path
    folder: Path
    left_in_shared_memory: set[str]


@pytest.fixture(scope="session")
def finished(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """Two rounds with two policy ranks, two rollout engines and a vLLM judge, on a cluster that the command starts."""
    out = tmp_path_factory.mktemp("finished")
    recipe = tiny_recipe(
        tiny,
        out,
        judge={"risk": {"backend": "vllm", "model": str(tiny / "model"), "dtype": "float32", "max_model_len": 1024}},
        policy={"ranks": 2, "zero_stage": 2, "steps_per_round": 2},
        rollout={"engines": 2},
    )
    before = _in_shared_memory()
    done = train(recipe)
    assert done.returncode == 0, done.stdout + done.stderr
    return FinishedRun(recipe, out / "tiny", _in_shared_memory() - before)


@pytest.fixture(scope="session")
def warmed(finished: FinishedRun) -> dict[str, Any]:
    """Changes to a recipe by which it starts from the tiny model after its warm-up, and does none itself."""
    return {"model": {"path": str(finished.folder / "sft")}, "warmup": {"source": "none", "path": None}}


def _in_shared_memory() -> set[str]:
    return {path.name for path in Path("/dev/shm").iterdir() if path.name.startswith(("rapo-", "deepspeed_"))}


@dataclass(frozen=True)
class Cluster:
    """A running cluster with token authentication: its job API, who joins it needs what environment, its files."""

    dashboard: str
    env: dict[str, str]
    folder: Path


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A cluster as an operator starts it; runs that join it save the start of their own."""
    with ray_head({}) as made:
        yield made


@contextlib.contextmanager
def ray_head(env: dict[str, str]) -> Iterator[Cluster]:
    """`ray start --head` with a token, in this environment."""
    with tempfile.TemporaryDirectory(prefix="rapo") as session:  # short: a socket's path has at most 107 characters
        yield from _ray_head(Path(session), env)


def _ray_head(session: Path, env: dict[str, str]) -> Iterator[Cluster]:
    port, dashboard, agent = free_port(), free_port(), free_port()
    token = session / "token"
    token.write_text("0123456789abcdef" * 4)
    token.chmod(0o600)
    tokens = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "RAY_metrics_report_interval_ms": "1000"}
    ports = [f"--port={port}", f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}"]
    start = [*RAY, "start", "--head", "--block", "--num-cpus=4", f"--temp-dir={session}", *ports]
    head = subprocess.Popen(start, env=environment(**tokens, **env), stdout=subprocess.DEVNULL)
    family = [psutil.Process(head.pid)]
    try:
        address = f"http://127.0.0.1:{dashboard}"
        _wait_until_it_refuses(address, head)
        yield Cluster(address, {**tokens, "RAY_ADDRESS": f"127.0.0.1:{port}"}, session)
    finally:
        family = [*psutil.Process(head.pid).children(recursive=True), *family]
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family, timeout=30)


def _wait_until_it_refuses(address: str, head: subprocess.Popen[bytes]) -> None:
    """The job API answers, and wants a token."""
    deadline = time.monotonic() + 180
    while True:
        assert head.poll() is None, "the cluster did not start"
        assert time.monotonic() < deadline, "the job API never answered"
        with contextlib.suppress(OSError):
            assert _status_without_token(address) == 401
            return
        time.sleep(1)


def _status_without_token(address: str) -> int:
    try:
        with urllib.request.urlopen(f"{address}/api/jobs/", timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.fixture(scope="session")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Endpoint"]:
    """Our endpoint with a random model."""
    from tests.e2e.endpoint import publish, serving

    folder = tmp_path_factory.mktemp("endpoint")
    with serving(folder, publish(folder / "run", "tiny", 1, seed=0), "limits.in_flight=32", "limits.body_bytes=65536",
                 "limits.body_seconds=3", "limits.messages=16", "limits.max_tokens=128",
                 "limits.header_seconds=3", "limits.header_connections=60") as at:  # fmt: skip
        yield at


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    """One JSON object a line."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def tiny_recipe(folder: Path, out: Path, **changes: Any) -> Path:
    """A recipe over the tiny model; `changes` replace whole top-level keys or merge into sections."""
    recipe: dict[str, Any] = {
        "name": "tiny",
        "out": str(out),
        "rounds": 2,
        "prompts_per_round": 4,
        "samples_per_prompt": 4,
        "model": {"path": str(folder / "model")},
        "data": {
            "train": "tiny:all",
            "heldout": "tiny:all",
            "contamination": "keep and accept contaminated figures",  # it only has two prompts
            "sources": {"tiny": {"kind": "file", "path": str(folder / "prompts.jsonl")}},
        },
        "warmup": {
            "path": str(folder / "demonstrations.jsonl"),
            "epochs": 100,
            "batch_size": 2,
            "learning_rate": 4e-3,
        },
        "rollout": {"dtype": "float32", "max_new_tokens": 96, "max_prompt_tokens": 96, "max_num_seqs": 32},
        "judge": {"risk": {"backend": "rules"}},
        "policy": {
            "dtype": "float32",
            "learning_rate": 1e-3,
            "micro_batch_tokens": 1024,
            "importance_correction": "token",
        },
        "checkpoint": {"every": 1, "keep": 2},
        "cluster": {"device": "cpu", "cpus_per_actor": 0.1},
        "limits": {"start": 300, "generate": 120, "judge": 180, "update": 120, "sync": 60, "warmup": 300},
    }
    for name, change in changes.items():
        recipe[name] = {**recipe.get(name, {}), **change} if isinstance(change, dict) else change
    out.mkdir(parents=True, exist_ok=True)
    path = out / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return path


def train_command(recipe: Path | str, *arguments: str) -> list[str]:
    """The command of a user."""
    return [sys.executable, "-m", "rapo_ray.train", "--config", str(recipe), *arguments]


def environment(**more: str) -> dict[str, str]:
    """The environment of a user who has no hub and, by default, no cluster."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return {**env, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1", **more}


def train(
    recipe: Path | str, *arguments: str, joining: Cluster | None = None, timeout: float = 540
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end, on a cluster of its own or joining one."""
    return subprocess.run(
        train_command(recipe, *arguments),
        cwd=REPOSITORY,
        env=environment(**(joining.env if joining else {})),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
