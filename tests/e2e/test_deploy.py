"""deploy/serve.yaml, deployed declaratively on a running cluster."""

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import yaml

from tests.e2e.conftest import REPOSITORY, Cluster, environment
from tests.e2e.endpoint import KEY, Endpoint, publish, wait_until_healthy
from tests.e2e.load import post
from tests.ports import free_port

pytestmark = pytest.mark.e2e

SERVE = str(Path(sys.executable).with_name("serve"))


def test_the_declared_endpoint_answers(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"ann:{KEY}\n")
    declared = yaml.safe_load((REPOSITORY / "deploy" / "serve.yaml").read_text())
    declared["http_options"]["port"] = port = free_port()
    run = publish(tmp_path / "run", "tiny", 7, seed=0)
    for application in declared["applications"]:
        application["args"] |= {
            "model": str(run),
            "api_keys": str(tmp_path / "keys"),
            "dtype": "float32",
            "max_model_len": 512,
        }
    (tmp_path / "serve.yaml").write_text(yaml.safe_dump(declared))
    serve(cluster, "deploy", str(tmp_path / "serve.yaml"))
    try:
        at = Endpoint(f"http://127.0.0.1:{port}/v1", KEY, "tiny", tmp_path, os.getpid())
        wait_until_healthy(at, 300)
        answer = post(at)
        assert (answer.status_code, answer.headers["x-rapo-weights-version"]) == (200, "7")
        assert httpx.get(f"{at.url}/models", timeout=60).status_code == 401
    finally:
        serve(cluster, "shutdown", "--yes")


def serve(cluster: Cluster, *arguments: str) -> None:
    """Run Ray's `serve` command."""
    command = [SERVE, *arguments, "--address", cluster.dashboard]
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        env=environment(**cluster.env),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
