"""The site builds strictly, and the commands of README and the guides run as they stand, in a copy of the checkout."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from rapo_ray.config.run import RunConfig
from rapo_ray.config.serving import ServeConfig
from rapo_ray.simulation.profile import Profile
from tests.checkout import copy_checkout
from tests.docs import PAGES, ROOT, SHELLS, Block, blocks
from tests.e2e.conftest import FinishedRun, environment

pytestmark = pytest.mark.e2e

RUN_HERE = [block for page in PAGES for block in blocks(page) if block.language in SHELLS and block.needs is None]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this checkout with its environment."""
    folder = copy_checkout(tmp_path_factory.mktemp("docs") / "rapo_ray")
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


def build(checkout: Path) -> subprocess.CompletedProcess[str]:
    """The command of `make docs`."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict"]
    env = environment(NO_MKDOCS_2_WARNING="1")
    return subprocess.run(command, cwd=checkout, env=env, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def site(checkout: Path) -> Path:
    """The built site."""
    done = build(checkout)
    assert done.returncode == 0, done.stdout + done.stderr
    return checkout / "site"


def test_the_site_has_every_page_and_asks_the_network_for_nothing(site: Path) -> None:
    pages = {page.stem for page in site.glob("*.html")}
    assert pages >= {"index", "configuration", "api", "modules", "contributing", "security", "changelog"}
    assert pages >= {page.stem for page in PAGES[1:]}
    for page in site.glob("*.html"):
        text = page.read_text("utf-8")
        loaded = re.findall(r'<(?:script|img|iframe)[^>]*\bsrc="?([^" >]+)|<link[^>]*\bhref="?([^" >]+)', text)
        assert [address for pair in loaded for address in pair if address.startswith(("http", "//"))] == []


def settings(model: type[BaseModel]) -> Iterator[str]:
    """The names of a model's settings, and of those of the sections inside it."""
    schema = model.model_json_schema()
    for section in (schema, *schema.get("$defs", {}).values()):
        yield from (name for name, field in section.get("properties", {}).items() if "$ref" not in str(field))


def test_every_setting_is_on_its_page(site: Path) -> None:
    text = (site / "configuration.html").read_text("utf-8")
    for model in (RunConfig, ServeConfig, Profile):
        assert [name for name in settings(model) if f"<td><code>{name}</code></td>" not in text] == []


def test_every_module_is_on_its_page(site: Path) -> None:
    text = (site / "modules.html").read_text("utf-8")
    sources = [path for package in ("rapo_ray", "actors") for path in (ROOT / package).rglob("*.py")]
    named = [path.stem for path in sources if path.stem != "__init__"]
    assert len(named) > 100
    assert [name for name in named if f"<td><code>{name}</code></td>" not in text] == []


@pytest.mark.parametrize(
    "faults",
    [
        {
            "README.md": ("[a guide](docs/gone.md)", "gone.md"),
            "docs/speed.md": ("[a section](judging.md#vanished)", "#vanished"),
            "docs/unlisted.md": ("# A page that the navigation lacks", "unlisted.md"),
        },
        {"docs/api.md": ("::: rapo_ray.removed", "rapo_ray.removed")},
    ],
)
def test_a_dead_link_or_a_missing_page_fails(
    checkout: Path, tmp_path: Path, faults: dict[str, tuple[str, str]]
) -> None:
    broken = tmp_path / "rapo_ray"
    shutil.copytree(checkout, broken, symlinks=True, ignore=shutil.ignore_patterns("site", "runs"))
    for page, (line, _) in faults.items():
        with (broken / page).open("a", encoding="utf-8") as file:
            file.write(f"\n{line}\n")
    done = build(broken)
    assert done.returncode != 0
    assert [complaint for _, complaint in faults.values() if complaint not in done.stdout + done.stderr] == []


@pytest.fixture(scope="module")
def with_a_run(checkout: Path, finished: FinishedRun) -> Path:
    """The copy with a finished run at runs/quickstart: a tiny one in the place of `make run`'s."""
    shutil.copytree(finished.folder, checkout / "runs" / "quickstart")
    return checkout


@pytest.mark.parametrize("block", RUN_HERE, ids=str)
def test_commands_run_as_they_stand(block: Block, with_a_run: Path) -> None:
    """The active environment is what the first run's guide asks for."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    script = ["bash", "-euo", "pipefail", "-c", block.text]
    done = subprocess.run(
        script, cwd=with_a_run, env=environment(PATH=path), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
