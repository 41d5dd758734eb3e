"""Rules of imports: the light parts stay light, and `rapo_ray` knows `actors` only where it starts them."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "ray", "vllm", "deepspeed", "transformers", "openrlhf")
MAY_IMPORT_ACTORS = {
    *(f"rapo_ray/{name}.py" for name in ("train", "serve", "promote", "simulate")),
    *(f"rapo_ray/pipeline/{name}.py" for name in ("run", "session", "evaluate", "evaluations", "warm_up")),
    *(f"rapo_ray/simulation/{name}.py" for name in ("actors", "rounds")),
}
SOURCES = sorted(path for package in ("rapo_ray", "actors") for path in (ROOT / package).rglob("*.py"))


def heavy_after(code: str) -> set[str]:
    """Heavy packages in sys.modules once `code` has run in a fresh interpreter."""
    report = f"import sys\n{code}\nprint('loaded:', *(name for name in {HEAVY!r} if name in sys.modules))"
    result = subprocess.run([sys.executable, "-c", report], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    word, *loaded = result.stdout.splitlines()[-1].split()
    assert word == "loaded:"
    return set(loaded)


@pytest.mark.parametrize(
    "code",
    [
        "import rapo_ray",
        "import rapo_ray.config, rapo_ray.data.recipe, rapo_ray.orchestrator.round, rapo_ray.storage.records",
        "import rapo_ray.reward.credit, rapo_ray.trainer.batch, rapo_ray.judging.llm, rapo_ray.judging.rules",
        "import rapo_ray.storage.checkpoint, rapo_ray.storage.run_folder, rapo_ray.console, actors.placement",
        "import rapo_ray.orchestrator.weight_sync",
        "from rapo_ray.config.load import load_config, to_yaml; to_yaml(load_config('quickstart'))",
        "from rapo_ray.train import main; assert main(['--dry-run', 'model.path=nobody/nothing']) == 0",
        "import runpy\nsys.argv = ['rapo_ray.train', '--help']\n"
        "try:\n    runpy.run_module('rapo_ray.train', run_name='__main__')\n"
        "except SystemExit as end:\n    assert not end.code",
        "import rapo_ray.report.page",
        "import runpy\nsys.argv = ['rapo_ray.report', '--help']\n"
        "try:\n    runpy.run_module('rapo_ray.report', run_name='__main__')\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "assert not {'matplotlib', 'jinja2', 'pyarrow'} & set(sys.modules)",
        "import rapo_ray.monitoring.status, rapo_ray.monitoring.watchers",
        "import runpy\nsys.argv = ['rapo_ray.status', '--help']\n"
        "try:\n    runpy.run_module('rapo_ray.status', run_name='__main__')\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "assert not {'rich', 'pydantic', 'pyarrow'} & set(sys.modules)",
    ],
)
def test_the_light_parts_load_nothing_heavy(code: str) -> None:
    assert heavy_after(code) == set()


def test_the_probe_sees_a_heavy_import() -> None:
    assert heavy_after("sys.modules['torch'] = sys") == {"torch"}


def test_help_says_how_to_run() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "rapo_ray.train", "--help"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0
    assert "--config" in result.stdout
    assert "ray job submit" in result.stdout


def imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        yield node.module


def imports_at_load(tree: ast.AST) -> Iterator[str]:
    """Modules imported when the file itself is: everything outside function bodies, and not for type checkers only."""
    for node in ast.iter_child_nodes(tree):
        yield from imported(node)
        typing_only = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        if not typing_only and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from imports_at_load(node)


def is_actors(module: str) -> bool:
    return module.split(".")[0] == "actors"


def parsed() -> Iterator[tuple[str, ast.Module]]:
    for path in SOURCES:
        yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def test_rapo_ray_imports_actors_only_lazily_and_only_where_it_starts_them() -> None:
    at_load, lazily = set(), set()
    for name, tree in parsed():
        if name.startswith("rapo_ray/"):
            at_load |= {name for module in imports_at_load(tree) if is_actors(module)}
            lazily |= {name for node in ast.walk(tree) for module in imported(node) if is_actors(module)}
    assert at_load == set()
    assert lazily == MAY_IMPORT_ACTORS


def test_the_import_scan_tells_load_time_from_call_time() -> None:
    tree = ast.parse("if x:\n    import actors.a\nclass C:\n    import b\ndef f():\n    import c\n")
    assert set(imports_at_load(tree)) == {"actors.a", "b"}


def test_no_remote_code() -> None:
    def trusts(node: ast.AST) -> bool:
        return isinstance(node, ast.keyword) and node.arg == "trust_remote_code" and ast.unparse(node.value) != "False"

    assert [name for name, tree in parsed() if any(trusts(node) for node in ast.walk(tree))] == []
    texts = {path: path.read_text(encoding="utf-8") for path in (ROOT / "rapo_ray").rglob("*.yaml")} | {
        path: path.read_text(encoding="utf-8") for path in SOURCES
    }
    spellings = ("trust_remote_code=" + "True", '"trust_remote_code": ' + "True", "trust_remote_code: " + "true")
    assert [str(path) for path, text in texts.items() if any(spelling in text for spelling in spellings)] == []


def swallows(handler: ast.ExceptHandler) -> bool:
    """A bare except, or one of Exception that does nothing."""
    if handler.type is None:
        return True
    broad = ast.unparse(handler.type) in ("Exception", "BaseException")
    return broad and all(isinstance(node, ast.Pass | ast.Continue) for node in handler.body)


def handlers(tree: ast.AST) -> list[ast.ExceptHandler]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler)]


def test_no_error_is_swallowed() -> None:
    swallowed = [
        f"{name}:{handler.lineno}" for name, tree in parsed() for handler in handlers(tree) if swallows(handler)
    ]
    assert swallowed == []


@pytest.mark.parametrize(
    ("clause", "bad"),
    [
        ("except:\n    log()", True),
        ("except Exception:\n    pass", True),
        ("except OSError:\n    pass", False),
        ("except Exception as error:\n    raise E() from error", False),
    ],
)
def test_the_scan_for_swallowed_errors_can_tell(clause: str, bad: bool) -> None:
    (handler,) = handlers(ast.parse(f"try:\n    f()\n{clause}\n"))
    assert swallows(handler) is bad


@pytest.mark.parametrize("module", ["rapo_ray.pipeline.run", "rapo_ray.pipeline.evaluate", "rapo_ray.serving.deploy"])
def test_ray_is_not_imported_before_the_cluster_is_joined(module: str) -> None:
    """Ray reads at its import whether tokens are on, and `ray_cluster` is what turns them on."""
    assert "ray" not in heavy_after(f"import {module}, actors.cluster, actors.placement")
