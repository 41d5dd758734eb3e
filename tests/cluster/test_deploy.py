"""Files of deploy/ as Ray reads them: the endpoint's applications, and the file of `ray up` with its defaults."""

from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.cluster

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"


def read(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text("utf-8"))


@pytest.mark.parametrize(
    "config", [read("serve.yaml"), yaml.safe_load(read("kubernetes/rayservice.yaml")["spec"]["serveConfigV2"])]
)
def test_serve_takes_the_applications_and_knows_every_key(config: dict[str, Any]) -> None:
    from ray.serve.config import HTTPOptions
    from ray.serve.schema import ServeApplicationSchema, ServeDeploySchema

    names = [application.name for application in ServeDeploySchema.model_validate(config).applications]
    assert names == ["rapo-engines", "rapo"]
    # Serve ignores unknown keys.
    assert config.keys() <= ServeDeploySchema.model_fields.keys()
    assert config["http_options"].keys() <= HTTPOptions.model_fields.keys()
    for application in config["applications"]:
        assert application.keys() <= ServeApplicationSchema.model_fields.keys()


def test_ray_up_takes_the_cluster_file() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    complete = prepare_config(read("ray-up.yaml"))
    validate_config(complete)
    assert complete["available_node_types"]["local.cluster.node"]["max_workers"] == 2
