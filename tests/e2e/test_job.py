"""The job API of a cluster with token authentication, as a user submits to it."""

import contextlib
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.e2e.conftest import REPOSITORY, environment, tiny_recipe
from tests.ports import free_port

pytestmark = pytest.mark.e2e

RAY = [str(Path(sys.executable).with_name("ray"))]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Address of the job API and the environment of its clients."""
    token = tmp_path / "token"
    token.write_text("0123456789abcdef" * 4)
    token.chmod(0o600)
    env = environment(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(token))
    port, dashboard, agent = free_port(), free_port(), free_port()
    with tempfile.TemporaryDirectory(prefix="rapo") as session:  # short: a socket's path has at most 107 characters
        ports = [f"--port={port}", f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}"]
        start = [*RAY, "start", "--head", "--block", "--num-cpus=2", f"--temp-dir={session}", *ports]
        head = subprocess.Popen(start, env=env, stdout=subprocess.DEVNULL)
        family = [psutil.Process(head.pid)]
        try:
            address = f"http://127.0.0.1:{dashboard}"
            _wait_until_it_refuses(address, head)
            family = [*psutil.Process(head.pid).children(recursive=True), *family]
            yield address, env
        finally:
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


def test_a_submitted_job_trains_and_leaves_the_model(
    tiny: Path, tmp_path: Path, cluster: tuple[str, dict[str, str]]
) -> None:
    address, env = cluster
    recipe = tiny_recipe(tiny, tmp_path, rounds=1)
    submit = [*RAY, "job", "submit", "--address", address, "--working-dir", str(REPOSITORY), "--"]
    command = [sys.executable, "-m", "rapo_ray.train", "--config", str(recipe)]
    deadline = time.monotonic() + 120
    while True:
        done = subprocess.run(
            submit + command, env=env, capture_output=True, text=True, timeout=540, cwd=REPOSITORY, check=False
        )
        if "No available agent" not in done.stderr or time.monotonic() > deadline:  # it starts after the API does
            break
        time.sleep(2)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert "succeeded" in done.stdout
    assert (tmp_path / "tiny" / "model" / "model.safetensors").stat().st_size > 0
    assert (tmp_path / "tiny" / "summary.json").exists()


def _status_without_token(address: str) -> int:
    try:
        with urllib.request.urlopen(f"{address}/api/jobs/", timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
