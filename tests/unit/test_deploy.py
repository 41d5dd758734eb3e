"""Files of deploy/: strict schemas, settings and commands that load, one image, no secret."""

import importlib.util
import json
import os
import re
import shlex
import subprocess
import time
import tomllib
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator, Draft202012Validator
from jsonschema.protocols import Validator

from rapo_ray.config.load import load_config, load_settings
from rapo_ray.config.serving import ServeConfig

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
DEFINITIONS = json.loads((ROOT / "tests" / "data" / "kubernetes.schema.json").read_text("utf-8"))
KINDS = {
    "RayJob": "io.ray.v1.RayJob",
    "RayCluster": "io.ray.v1.RayCluster",
    "RayService": "io.ray.v1.RayService",
    "NetworkPolicy": "io.k8s.api.networking.v1.NetworkPolicy",
    "Secret": "io.k8s.api.core.v1.Secret",
    "PersistentVolumeClaim": "io.k8s.api.core.v1.PersistentVolumeClaim",
}
SECRETS = {"rapo-ray-token": "auth_token", "rapo-api-keys": "api-keys"}

Document = dict[str, Any]
Place = tuple[str | int, ...]


def documents(path: Path) -> list[Document]:
    return list(yaml.safe_load_all(path.read_text("utf-8")))


def everything() -> list[tuple[str, Document]]:
    return [(path.name, document) for path in MANIFESTS for document in documents(path)]


def the(name: str) -> Document:
    (document,) = documents(DEPLOY / "kubernetes" / name)
    return document


def validator(kind: str) -> Validator:
    return Draft202012Validator({**DEFINITIONS, "$ref": f"#/$defs/{KINDS[kind]}"})


def ray_up() -> tuple[Document, Validator]:
    """The cluster file, and the schema that `ray up` validates it with; Ray itself is not imported."""
    spec = importlib.util.find_spec("ray")
    assert spec is not None and spec.submodule_search_locations is not None
    schema = Path(spec.submodule_search_locations[0]) / "autoscaler" / "ray-schema.json"
    (document,) = documents(DEPLOY / "ray-up.yaml")
    return document, Draft7Validator(json.loads(schema.read_text("utf-8")))


def walk(node: object, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    yield place, node
    pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in pairs:
        yield from walk(value, (*place, key))


def named(document: Document, name: str) -> list[Any]:
    return [value for place, value in walk(document) if place and place[-1] == name]


def pods(document: Document) -> list[Document]:
    return [template["spec"] for template in named(document, "template")]


def test_there_is_one_of_each_kind() -> None:
    assert {document["kind"] for _, document in everything()} == set(KINDS)


@pytest.mark.parametrize(("name", "document"), everything())
def test_a_manifest_passes_its_schema(name: str, document: Document) -> None:
    errors = [f"{error.json_path}: {error.message}" for error in validator(document["kind"]).iter_errors(document)]
    assert errors == []


@pytest.mark.parametrize(("name", "document"), everything())
def test_a_misspelt_field_fails_wherever_it_is(name: str, document: Document) -> None:
    """Every field except free names: labels, resources, a secret's keys and the parameters of Ray's start."""
    free = {"matchLabels", "labels", "requests", "limits", "stringData", "rayStartParams"}
    check = validator(document["kind"])
    missed = []
    for place, node in list(walk(document)):
        if not isinstance(node, dict) or (place and place[-1] in free):
            continue
        for key in node:
            wrong = deepcopy(document)
            target: Any = wrong
            for step in place:
                target = target[step]
            target[f"{key}x"] = target.pop(key)
            if check.is_valid(wrong):
                missed.append(".".join(map(str, (*place, key))))
    assert missed == []


@pytest.mark.parametrize(
    ("change", "value"),
    [
        (("spec", "rayClusterSpec", "authOptions", "mode"), "tokens"),
        (("spec", "rayClusterSpec", "workerGroupSpecs", 0, "replicas"), "1"),
        (("spec", "rayClusterSpec", "headGroupSpec", "rayStartParams", "num-cpus"), 0),
        (("spec", "submissionMode"), "HttpMode"),
        (("spec", "rayClusterSpec", "headGroupSpec", "template", "spec", "containers"), None),
    ],
)
def test_a_wrong_value_fails(change: Place, value: object) -> None:
    document = the("rayjob.yaml")
    target: Any = document
    for step in change[:-1]:
        target = target[step]
    target[change[-1]] = value
    assert not validator("RayJob").is_valid(document)


def test_the_cluster_file_passes_ray_s_own_schema() -> None:
    document, check = ray_up()
    assert [error.message for error in check.iter_errors(document)] == []
    for key in document:
        wrong = {f"{name}x" if name == key else name: value for name, value in document.items()}
        assert not check.is_valid(wrong), key


@pytest.mark.parametrize("name", ["rayservice.yaml", "serve.yaml"])
def test_the_endpoint_s_settings_load_and_name_what_is_mounted(name: str) -> None:
    if name == "serve.yaml":
        config = yaml.safe_load((DEPLOY / name).read_text("utf-8"))
    else:
        service = the(name)
        config = yaml.safe_load(service["spec"]["serveConfigV2"])
    engines, ingress = config["applications"]
    assert engines["args"] == ingress["args"]
    settings = load_settings(ServeConfig, dict(ingress["args"]), (), name)
    assert settings.engines == engines["name"]
    assert [engines["route_prefix"], ingress["route_prefix"]] == [None, "/"]
    for application in (engines, ingress):
        module, function = application["import_path"].split(":")
        source = (ROOT / f"{module.replace('.', '/')}.py").read_text("utf-8")
        assert f"\ndef {function}(config: ServeConfig)" in source
    if name == "rayservice.yaml":
        for pod in pods(service):
            (container,) = pod["containers"]
            mounted = {Path(mount["mountPath"]) for mount in container["volumeMounts"]}
            assert settings.model.parent in mounted and settings.api_keys.parent in mounted
            assert not any("subPath" in mount for mount in container["volumeMounts"])  # would keep old keys for ever
        assert settings.api_keys.name == SECRETS["rapo-api-keys"]


def commands() -> list[tuple[str, str]]:
    """Every command line of the trainer in deploy/ and its guide, with its file."""
    files = [*MANIFESTS, DEPLOY / "ray-up.yaml", DEPLOY / "slurm.sh", ROOT / "docs" / "operations.md"]
    lines = []
    for path in files:
        for line in path.read_text("utf-8").splitlines():
            match = re.search(r"(?:rapo_ray\.train|deploy/slurm\.sh) (--config [^`#]*)", line)
            if match:
                lines.append((path.name, match[1].strip()))
    return lines


def test_every_command_line_loads() -> None:
    assert {name for name, _ in commands()} == {"rayjob.yaml", "ray-up.yaml", "slurm.sh", "operations.md"}
    for _, line in commands():
        _, recipe, *words = shlex.split(line)
        config = load_config(recipe, [word for word in words if word != "--dry-run"])
        assert config.out.is_absolute() or "--dry-run" in words, line  # a job's own folder goes away


def test_the_job_writes_where_the_claim_is_mounted() -> None:
    job = the("rayjob.yaml")
    _, _, _, _, recipe, *overrides = shlex.split(job["spec"]["entrypoint"])
    out = str(load_config(recipe, overrides).out)
    claims = {volume["persistentVolumeClaim"]["claimName"] for volume in volumes(job, "persistentVolumeClaim")}
    assert claims == {the("storage.yaml")["metadata"]["name"]}
    for pod in pods(job):
        (container,) = pod["containers"]
        assert out in {mount["mountPath"] for mount in container["volumeMounts"]}


def volumes(document: Document, kind: str) -> list[Document]:
    return [volume for pod in pods(document) for volume in pod["volumes"] if kind in volume]


@pytest.mark.parametrize("name", ["rayjob.yaml", "raycluster.yaml", "rayservice.yaml"])
def test_pods_are_unprivileged_probed_bounded_and_closed(name: str) -> None:
    document = the(name)
    for pod in pods(document):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert f"USER {pod['securityContext']['runAsUser']}\n" in (DEPLOY / "docker" / "cpu.Dockerfile").read_text()
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            }
            assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys()
            assert container["resources"]["requests"].keys() == container["resources"]["limits"].keys()
    for template in named(document, "template"):
        assert template["metadata"]["labels"]["app.kubernetes.io/part-of"] == "rapo"  # what the policies select
    (head,) = named(document, "headGroupSpec")
    assert (head["serviceType"], head["enableIngress"]) == ("ClusterIP", False)


def test_every_cluster_asks_for_the_token() -> None:
    clusters = [("rayjob.yaml", "rayClusterSpec"), ("rayservice.yaml", "rayClusterConfig"), ("raycluster.yaml", None)]
    installed = re.search(r"^ray==(\S+)$", (ROOT / "requirements" / "cpu.lock").read_text("utf-8"), re.MULTILINE)
    assert installed is not None
    for name, field in clusters:
        spec = the(name)["spec"]
        cluster = spec if field is None else spec[field]
        assert cluster["authOptions"] == {"mode": "token", "secretName": "rapo-ray-token"}
        assert cluster["rayVersion"] == installed[1]
    starts = [line for key in ("head", "worker") for line in ray_up()[0][f"{key}_start_ray_commands"]]
    assert all("RAY_AUTH_MODE=token" in line for line in starts if "ray start" in line)
    assert "export RAY_AUTH_MODE=token" in (DEPLOY / "slurm.sh").read_text("utf-8")


def test_one_image_of_this_version_everywhere() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    images = {image for _, document in everything() for image in named(document, "image")}
    assert images == {f"rapo-ray:{version}"}
    for path in (DEPLOY / "docker").iterdir():
        text = path.read_text("utf-8")
        assert f"-t rapo-ray:{version} ." in text
        assert re.search(r"^FROM [\w/-]+:(?!latest)[\w.-]+$", text, re.MULTILINE)
        assert re.findall(r"^USER (.*)$", text, re.MULTILINE)[-1] == "10001"


def test_images_are_built_from_named_files_only() -> None:
    first, *allowed = [line for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line[:1] != "#"]
    assert first == "*"
    assert all((ROOT / line[1:]).exists() for line in allowed if line.startswith("!"))


def test_no_file_holds_a_secret() -> None:
    """Secrets are empty, no environment variable names one, and nothing looks like a key or token."""
    secrets = {
        document["metadata"]["name"]: document["stringData"]
        for _, document in everything()
        if document["kind"] == "Secret"
    }
    assert secrets == {name: {key: ""} for name, key in SECRETS.items()}
    for _, document in everything():
        assert named(document, "env") == [] and named(document, "envFrom") == []
    looks = re.compile(r"\b(?:[0-9a-f]{32,}|hf_\w{20,}|sk-\w{20,})\b|(?:Bearer|password[:=]) *[\w-]{8,}")
    for path in (path for path in DEPLOY.rglob("*") if path.is_file()):
        assert looks.search(path.read_text("utf-8")) is None, path


STUBS = {
    "srun": 'echo "srun $*" >>log; echo $$ >>sruns; exec sleep 60',
    "hostname": "echo 192.0.2.1 192.0.2.2",
    "python": """case "$*" in
*secrets*) printf token ;;
*"import ray"*) echo "$SLURM_JOB_NUM_NODES" ;;
*) stat -c %a "$RAY_AUTH_TOKEN_PATH" >mode; echo "python $*" >>log; trap 'echo TERM >>log; exit 130' TERM
   touch running; while [ -e stay ]; do sleep 0.02; done; exit 7 ;;
esac""",
}


@pytest.mark.parametrize(("nodes", "terminated"), [("1", False), ("2", False), ("2", True)])
def test_the_slurm_script_starts_ray_trains_and_leaves_nothing(tmp_path: Path, nodes: str, terminated: bool) -> None:
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name, body in STUBS.items():
        (programs / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
        (programs / name).chmod(0o755)
    if terminated:
        (tmp_path / "stay").touch()
    job = {"SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_JOB_NUM_NODES": nodes, "SLURMD_NODENAME": "a", "SLURM_JOB_ID": "5"}
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **job}
    command = ["bash", str(DEPLOY / "slurm.sh"), "--config", "paper"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as script:
        if terminated:
            while not (tmp_path / "running").exists():
                time.sleep(0.02)
            script.terminate()
        script.wait(20)
    log = (tmp_path / "log").read_text()
    assert script.returncode == (130 if terminated else 7)
    assert ("TERM" in log) is terminated
    assert log.count("srun") == int(nodes) and log.count("--nodelist=a ray start --head") == 1
    assert log.count("--exclude=a ray start --address=192.0.2.1:6379 --block") == int(nodes) - 1
    assert "python -m rapo_ray.train --config paper" in log
    assert (tmp_path / "mode").read_text() == "600\n"
    assert list(tmp_path.glob(".rapo-token*")) == []
    assert not any(Path(f"/proc/{pid}").exists() for pid in (tmp_path / "sruns").read_text().split())
