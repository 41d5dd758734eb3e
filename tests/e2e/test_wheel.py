"""The wheel: built from a copy, installed with nothing but its declared dependencies, run outside the source tree."""

import os
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from rapo_ray.__main__ import COMMANDS
from tests.checkout import ROOT, copy_checkout

pytestmark = pytest.mark.e2e

PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]


def run(command: list[str], folder: Path, *, expected: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a command that sees no Python path of ours; its exit status must be the expected one."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "RAY_", "RAPO_"))}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == expected, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    source = copy_checkout(folder / "source")
    build = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(folder), str(source)]
    run([*PIP, *build], folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def programs(wheel: Path) -> Path:
    """The programs of an environment that holds the wheel and what it declares to need, linked from ours: no engine."""
    environment = wheel.parent / "environment"
    run([sys.executable, "-m", "venv", "--without-pip", str(environment)], wheel.parent)
    into = ["--python", str(environment / "bin" / "python"), "install", "--quiet", "--no-deps", "--no-index"]
    run([*PIP, *into, str(wheel)], wheel.parent)
    (packages,) = environment.glob("lib/python*/site-packages")
    (installed,) = packages.glob("rapo_ray-*.dist-info")
    for distribution in needed_by(metadata.PathDistribution(installed)).values():
        for name in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            (packages / name).symlink_to(str(distribution.locate_file(name)))
    return environment / "bin"


def needed_by(distribution: metadata.Distribution) -> dict[str, metadata.Distribution]:
    """Requirements of a distribution without any extra, and their own requirements, as installed here."""
    needed: dict[str, metadata.Distribution] = {}
    waiting = [distribution]
    while waiting:
        for requirement in map(Requirement, waiting.pop().requires or ()):
            name = canonicalize_name(requirement.name)
            wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if wanted and name not in needed:
                needed[name] = metadata.distribution(name)
                waiting.append(needed[name])
    return needed


def test_the_wheel_has_what_it_should(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (about,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        text = archive.read(about).decode()
    assert {"rapo_ray/py.typed", "actors/py.typed"} <= names
    assert about.replace("METADATA", "licenses/LICENSE") in names
    assert "\nLicense-Expression: Apache-2.0\n" in text and "\nClassifier: Typing :: Typed\n" in text
    assert "Project-URL" not in text and "Home-page" not in text
    assert {name.split("/")[0] for name in names} == {"rapo_ray", "actors", about.split("/")[0]}


def test_it_works_outside_the_source_tree_without_an_engine(programs: Path, tmp_path: Path) -> None:
    listed = run([str(programs / "rapo"), "--help"], tmp_path).stdout
    assert all(f"  {verb} " in listed for verb in COMMANDS)
    where = (
        "import rapo_ray, importlib.util as u; print(rapo_ray.__file__, *(u.find_spec(n) for n in ('ray', 'torch')))"
    )
    file, *engines = run([str(programs / "python"), "-c", where], tmp_path).stdout.split()
    assert Path(file).is_relative_to(programs.parent) and engines == ["None", "None"]
    recipes = "from rapo_ray.config.load import shipped_recipes; print(*shipped_recipes())"
    names = {path.stem for path in (ROOT / "rapo_ray" / "recipes").glob("*.yaml")}
    assert set(run([str(programs / "python"), "-c", recipes], tmp_path).stdout.split()) == names
    dry = run([str(programs / "rapo"), "train", "--config", "quickstart", "--dry-run"], tmp_path)
    assert "name: quickstart" in dry.stdout and "rollout" in dry.stdout
    assert "chat formats: not read, for transformers is not installed here" in dry.stdout
    assert list(tmp_path.iterdir()) == []


def test_training_says_in_one_line_what_is_missing(programs: Path, tmp_path: Path) -> None:
    done = run([str(programs / "rapo"), "train", "--config", "quickstart"], tmp_path, expected=1)
    assert done.stderr == (
        "error: the package `ray` is not installed: install rapo-ray with its extra `cpu` or `gpu`\n"
    )
    assert list(tmp_path.iterdir()) == []
