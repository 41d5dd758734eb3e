"""Our endpoint, started as a user would, and the operations of the tests on it."""

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from rapo_ray.config.thinking import ThinkingConfig
from rapo_ray.models.chat_template import format_of_folder
from rapo_ray.models.published import write_manifest
from tests.e2e.conftest import REPOSITORY, environment
from tests.ports import free_port
from tests.tiny import tiny_model

KEY = "key-of-ann-0123456789abcdef"
STRICT_KEY = "key-of-bob-0123456789abcdef"


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible endpoint: its base URL, a bearer key, the name of its model, its folder and process."""

    url: str
    key: str
    model: str
    folder: Path = Path()
    pid: int = 0

    @property
    def root(self) -> str:
        """The URL without `/v1`."""
        return self.url.removesuffix("/v1")

    def headers(self) -> dict[str, str]:
        """The headers of a caller with a key."""
        return {"Authorization": f"Bearer {self.key}"}

    def log(self) -> str:
        """The end of the server's output."""
        return (self.folder / "log.txt").read_text()[-4000:]


def publish(folder: Path, name: str, version: int, seed: int) -> Path:
    """Create a run's folder with a published random model, which answers with text and never thinks."""
    publish_model(tiny_model(folder / "model", seed=seed, tied=False), name, version)  # tied, it repeats one token
    return folder


def publish_model(model: Path, name: str, version: int) -> None:
    """Publish a model folder with the chat format that its template shows."""
    write_manifest(model, name, version, "no config", None, format_of_folder(model, ThinkingConfig()))


@contextlib.contextmanager
def serving(folder: Path, run: Path, *settings: str) -> Iterator[Endpoint]:
    """Run `python -m rapo_ray.serve` until the block ends."""
    (folder / "keys").write_text(f"ann:{KEY}\nbob:{STRICT_KEY}\n")
    port = free_port()
    command = [
        sys.executable, "-m", "rapo_ray.serve", "--model", str(run), "--api-keys", str(folder / "keys"),
        "--port", str(port), "--state", str(folder / "state"), "device=cpu", "dtype=float32", "max_model_len=512",
        "cpus_per_replica=0.1", "name=tiny", *settings,
    ]  # fmt: skip
    with (folder / "log.txt").open("w") as output:
        server = subprocess.Popen(
            command, cwd=REPOSITORY, env=environment(), start_new_session=True, stdout=output, stderr=output
        )
    at = Endpoint(f"http://127.0.0.1:{port}/v1", KEY, "tiny", folder, server.pid)
    family = [psutil.Process(server.pid)]
    try:
        wait_until_healthy(at, 400)
        family += psutil.Process(server.pid).children(recursive=True)
        yield at
    finally:
        server.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(timeout=60)
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family, timeout=30)


def wait_until_healthy(at: Endpoint, seconds: float) -> None:
    """Poll /health; fails if the server exits or the time is up."""
    deadline = time.monotonic() + seconds
    while True:
        assert psutil.pid_exists(at.pid), f"the endpoint exited:\n{at.log()}"
        assert time.monotonic() < deadline, f"the endpoint never got healthy:\n{at.log()}"
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{at.root}/health", timeout=40).status_code == 200:
                return
        time.sleep(0.5)


def engines_of(at: Endpoint) -> list[psutil.Process]:
    """The processes that run vLLM."""
    engines = []
    for process in psutil.Process(at.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "EngineCore" in process.name() or "EngineCore" in " ".join(process.cmdline()):
                engines.append(process)
    return engines


def promote(at: Endpoint, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m rapo_ray.promote` on this endpoint."""
    command = [sys.executable, "-m", "rapo_ray.promote", *arguments, "--state", str(at.folder / "state")]
    env = environment(RAY_ADDRESS=_address(at))
    return subprocess.run(command, cwd=REPOSITORY, env=env, capture_output=True, text=True, timeout=400, check=False)


def _address(at: Endpoint) -> str:
    """Address of the cluster that the server started, as several may run on this machine."""
    for process in psutil.Process(at.pid).children(recursive=True):
        for argument in process.cmdline():
            if argument.startswith("--gcs-address="):
                return argument.partition("=")[2]
    raise AssertionError("the server runs no cluster")
