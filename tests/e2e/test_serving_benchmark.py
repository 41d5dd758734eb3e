"""The serving benchmark, stopped: no server is left behind."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.e2e.conftest import REPOSITORY, environment
from tests.e2e.endpoint import publish

pytestmark = pytest.mark.e2e


def test_a_benchmark_that_is_terminated_leaves_no_server(tmp_path: Path) -> None:
    run = publish(tmp_path / "run", "tiny", 1, seed=0)
    benchmark = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.serving", "--model", str(run)], cwd=REPOSITORY, env=environment()
    )
    deadline = time.monotonic() + 400
    while not (servers := [one for one in _family(benchmark.pid) if "api_server" in " ".join(one.cmdline())]):
        assert benchmark.poll() is None and time.monotonic() < deadline
        time.sleep(0.2)
    benchmark.send_signal(signal.SIGTERM)
    assert benchmark.wait(timeout=120) == 130
    _, alive = psutil.wait_procs(servers, timeout=30)
    assert not alive


def _family(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)
