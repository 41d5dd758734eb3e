"""The Grafana dashboard asks for nothing that nobody exports, and shows everything that we do."""

import ast
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import rapo_ray.serving
from rapo_ray.monitoring.series import SERIES

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy" / "grafana" / "rapo.json").read_text())
KINDS = {"Counter": ("",), "Gauge": ("",), "Histogram": ("_bucket", "_sum", "_count")}
BY_RAY = ("node_cpu_utilization", "node_mem_used", "node_mem_total", "node_gpus_utilization", "node_gram_used")


def queries() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]


def named() -> set[str]:
    queried = [variable["definition"] for variable in DASHBOARD["templating"]["list"] if variable["type"] == "query"]
    return {name for query in [*queries(), *queried] for name in re.findall(r"\bray_\w+", query)}


def of_the_endpoint() -> set[str]:
    """The series that `rapo_ray/serving/metrics.py` makes, read from its code: importing it imports Ray."""
    tree = ast.parse(Path(rapo_ray.serving.__path__[0], "metrics.py").read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    made = {(call.func.id, ast.literal_eval(call.args[0])) for call in calls if call.func.id in KINDS}  # type: ignore[attr-defined]
    return {f"ray_{name}{end}" for kind, name in made for end in KINDS[kind]}


def of_the_nodes() -> set[str]:
    """Of the series named above, those that this Ray exports, by its source."""
    spec = importlib.util.find_spec("ray")
    assert spec is not None and spec.origin is not None
    source = (Path(spec.origin).parent / "dashboard/modules/reporter/reporter_agent.py").read_text()
    return {f"ray_{name}" for name in BY_RAY if f'"{name}"' in source}


def test_every_query_names_series_that_are_exported() -> None:
    ours = {f"ray_{series.name}" for series in SERIES}
    assert of_the_endpoint() >= {"ray_rapo_serve_requests_total", "ray_rapo_serve_first_token_seconds_bucket"}
    assert named() - ours - of_the_endpoint() - of_the_nodes() == set()


def test_every_series_of_ours_is_on_a_panel() -> None:
    shown = named()
    assert {f"ray_{series.name}" for series in SERIES} <= shown
    bases = {re.sub(r"_(bucket|sum|count)$", "", name) for name in of_the_endpoint()}
    assert {name for name in bases if not any(one.startswith(name) for one in shown)} == set()


def test_each_panel_is_complete_and_none_covers_another() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == "${datasource}"
            assert panel["targets"] and panel["title"] and panel["fieldConfig"]["defaults"]["unit"]
    identities = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(identities) == len(set(identities))


def test_prometheus_reads_the_file_that_ray_writes() -> None:
    (job,) = yaml.safe_load((ROOT / "deploy" / "prometheus.yml").read_text())["scrape_configs"]
    spec = importlib.util.find_spec("ray")
    assert spec is not None and spec.origin is not None
    constants = (Path(spec.origin).parent / "_private/ray_constants.py").read_text()
    (file,) = job["file_sd_configs"][0]["files"]
    assert f'PROMETHEUS_SERVICE_DISCOVERY_FILE = "{Path(file).name}"' in constants
