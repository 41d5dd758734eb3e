"""A running job as an operator sees it: Prometheus, the Grafana panels' queries, Ray's dashboard, TensorBoard."""

import json
import math
import shutil
import struct
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from rapo_ray.monitoring.sinks import flatten
from tests import report_browser as look
from tests.e2e.conftest import REPOSITORY, Cluster, environment, ray_head, tiny_recipe, train_command
from tests.ports import free_port

pytestmark = pytest.mark.e2e

ROUNDS = 3
DASHBOARD: dict[str, Any] = json.loads((REPOSITORY / "deploy" / "grafana" / "rapo.json").read_text())
REQUESTS = "ray_rapo_serve_requests_total"
LASTS = 40  # seconds; longer than Ray keeps a gauge that is not set again
NO_GPU = {"GPUs", "GPU memory"}  # panels without values on a machine without GPUs
NO_ATTACKER = {  # and without data.attack; that their queries name series of ours is tested in test_dashboard.py
    "Attack success by k, and twins answered",
    "Attack success by family",
    "Attacked prompts, and dropped attacks",
    "Multiplier of the bound on over-refusal",
}
ENDPOINT = """
import ray, time
from types import SimpleNamespace
ray.init(log_to_driver=False)
from rapo_ray.serving.answers import Seen
from rapo_ray.serving.metrics import Metrics
metrics = Metrics()
serving = SimpleNamespace(id="tiny-v1", run="tiny", version=1)
metrics.version(serving)
while True:
    metrics.first_token(0.2)
    metrics.request(Seen(7, 1, [3]), serving)
    time.sleep(0.5)
"""  # stands in for a replica: the counting is real, the answering is not


@dataclass(frozen=True)
class Prometheus:
    """A Prometheus server that scrapes the cluster."""

    address: str
    started: float

    def ask(self, query: str) -> list[list[float]]:
        """Query the time since the start; returns every series as its finite values."""
        span = {"query": query, "start": self.started, "end": time.time(), "step": 1}
        with urllib.request.urlopen(f"{self.address}/api/v1/query_range?{urllib.parse.urlencode(span)}") as response:
            results = json.load(response)["data"]["result"]
        series = [[float(value) for _, value in result["values"]] for result in results]
        return [finite for values in series if (finite := [value for value in values if math.isfinite(value)])]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Start a separate cluster: on a shared one, Prometheus and the actors page also show earlier jobs."""
    with ray_head({}) as head:
        yield head


@pytest.fixture(scope="module")
def prometheus(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Start Debian's Prometheus with the deployed config; only the cluster's folder and the scrape interval differ."""
    if shutil.which("prometheus") is None:
        pytest.skip("no prometheus: apt-get install prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    config = yaml.safe_load((REPOSITORY / "deploy" / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s"}
    (discovery,) = config["scrape_configs"][0]["file_sd_configs"]
    discovery["files"] = [str(cluster.folder / Path(discovery["files"][0]).name)]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    command = ["prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}",
               f"--web.listen-address={address}"]  # fmt: skip
    with stopping(subprocess.Popen(command, stderr=subprocess.DEVNULL)):
        yield Prometheus(f"http://{address}", time.time())


@contextmanager
def stopping(process: "subprocess.Popen[Any]") -> Iterator["subprocess.Popen[Any]"]:
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


@dataclass(frozen=True)
class Watched:
    """A run that was inspected while it trained."""

    folder: Path
    output: str
    actors: Path  # screenshot of Ray's actors page
    names: str  # text of that page
    status: str


@pytest.fixture(scope="module")
def watched(
    tiny: Path,
    warmed: dict[str, Any],
    cluster: Cluster,
    prometheus: Prometheus,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Watched]:
    """Run a training with everything that has a panel: canaries, a second judge, traces to swap, TensorBoard."""
    out = tmp_path_factory.mktemp("watched")
    loose = {"min_true_positive_rate": 0, "max_false_positive_rate": 1, "max_flip_rate": 1}
    judge = {"risk": {"backend": "rules"}, "second": {"backend": "rules"}, "second_share": 1.0,
             "canaries": {"every": 1, **loose}}  # fmt: skip
    recipe = tiny_recipe(
        tiny, out, rounds=ROUNDS, judge=judge, sinks={"tensorboard": True}, data={"heldout_samples": 16}, **warmed
    )
    env = environment(**cluster.env)
    endpoint = subprocess.Popen([sys.executable, "-c", ENDPOINT], env=env, cwd=REPOSITORY)
    log = (out / "log").open("w+")
    with stopping(endpoint), stopping(subprocess.Popen(train_command(recipe), env=env, cwd=REPOSITORY, stdout=log,
                                                       stderr=subprocess.STDOUT)) as running:  # fmt: skip
        folder, deadline = out / "tiny", time.monotonic() + 300
        while not (folder / "metrics.jsonl").exists():
            assert running.poll() is None and time.monotonic() < deadline, (out / "log").read_text()
            time.sleep(0.2)
        command = [sys.executable, "-m", "rapo_ray.status", str(folder)]
        status = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, cwd=REPOSITORY).stdout
        names = text_of_actors_page(cluster, out / "actors.png")
        assert running.wait(300) == 0, (out / "log").read_text()
        end = time.time()
        while len(prometheus.ask(REQUESTS)[0]) <= LASTS or time.time() < end + 3:  # the last scrape
            assert endpoint.poll() is None and time.time() < end + 120
            time.sleep(1)
        yield Watched(folder, (out / "log").read_text(), out / "actors.png", names, status)


def text_of_actors_page(cluster: Cluster, screenshot: Path) -> str:
    """Open Ray's actors page as a person does, including the token; returns the text of the page."""
    executable = shutil.which("chromium")
    if executable is None:
        pytest.skip("no chromium: apt-get install chromium")
    token = Path(cluster.env["RAY_AUTH_TOKEN_PATH"]).read_text()
    with look.browser(executable) as browser:
        page = browser.new_page(viewport={"width": 1500, "height": 950})
        page.goto(f"{cluster.dashboard}/#/actors")
        page.get_by_role("textbox", name="Authentication Token").fill(token)
        page.get_by_role("button", name="Submit").click()
        page.get_by_text("rollout-0").first.wait_for(timeout=60_000)
        page.screenshot(path=screenshot)
        return page.locator("body").inner_text()


def test_each_panel_has_a_value(watched: Watched, prometheus: Prometheus) -> None:
    empty = []
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            query = target["expr"].replace("$run", ".+").replace("$__rate_interval", "5s")
            if panel["title"] not in NO_GPU | NO_ATTACKER and not prometheus.ask(query):
                empty.append(f"{panel['title']}: {query}")
    assert empty == []


def test_prometheus_holds_the_values_that_the_run_recorded(watched: Watched, prometheus: Prometheus) -> None:
    lines = [json.loads(line) for line in (watched.folder / "metrics.jsonl").read_text().splitlines()]
    (rounds,) = prometheus.ask('ray_rapo_train_round{run="tiny"}')
    assert rounds[-1] == ROUNDS
    (reward,) = prometheus.ask('ray_rapo_train_reward{run="tiny", part="total"}')
    assert reward[-1] == pytest.approx(lines[-1]["reward"]["total"])
    (verdicts,) = prometheus.ask('sum(ray_rapo_train_verdicts_total{run="tiny"})')
    assert verdicts[-1] == sum(sum(line["judge"]["statuses"].values()) for line in lines)


def test_a_gauge_that_was_set_once_lasts(watched: Watched, prometheus: Prometheus) -> None:
    (version,) = prometheus.ask('ray_rapo_serve_weights_version{run="tiny"}')
    (requests,) = prometheus.ask(REQUESTS)
    assert len(requests) > LASTS
    assert len(version) > len(requests) - 10


def test_the_dashboard_of_ray_shows_our_actors(watched: Watched) -> None:
    assert all(name in watched.names for name in ("rollout-0", "judge-risk-0", "policy-0", "reference-0"))
    assert watched.actors.stat().st_size > 10_000
    assert "report: " in watched.output


def test_the_status_says_that_it_runs(watched: Watched) -> None:
    assert "running, last wrote" in watched.status
    assert f" of {ROUNDS} " in watched.status


def test_tensorboard_has_every_figure(watched: Watched) -> None:
    lines = [json.loads(line) for line in (watched.folder / "metrics.jsonl").read_text().splitlines()]
    (file,) = (watched.folder / "tensorboard").iterdir()
    values = {(step, name): value for step, name, value in scalars(file)}
    for line in lines:
        for name, value in flatten(line).items():
            assert values[line["round"], name] == pytest.approx(value, rel=1e-6)
    assert values[1, "canaries/unscorable"] == 0


def scalars(path: Path) -> Iterator[tuple[int, str, float]]:
    """Read steps, names and values from an event file, whose records are length, checksum, content, checksum."""
    from tensorboardX.proto.event_pb2 import Event

    content = path.read_bytes()
    at = 0
    while at < len(content):
        (length,) = struct.unpack("<Q", content[at : at + 8])
        event = Event.FromString(content[at + 12 : at + 12 + length])
        yield from ((event.step, value.tag, value.simple_value) for value in event.summary.value)
        at += 16 + length
