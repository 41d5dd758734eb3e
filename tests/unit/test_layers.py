"""The architecture as a rule: a folder imports from the folders below it alone, imports inside functions counted."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[2]

# From the ground up. `actors` is the Ray half; what is named after it starts actors, inside functions only
# (test_imports.py holds that).
LAYERS = (
    "ground",  # the modules of rapo_ray/ that are no command
    "text",
    "attacks",
    "config",
    "models",
    "engines",
    "data",
    "judging",
    "reward",
    "trainer",
    "warmup",
    "evaluation",
    "storage",
    "orchestrator",
    "report",
    "monitoring",
    "serving",
    "actors",
    "simulation",
    "pipeline",
    "bridges",
    "commands",
)
COMMANDS = frozenset(
    ("__main__", "train", "judge", "evaluate", "intervene", "preferences", "serve", "promote", "simulate", "status")
)
UPWARD: frozenset[tuple[str, str]] = frozenset()  # imports against the order, (importer, imported): none

Graph = Mapping[str, frozenset[str]]


def layer(module: str) -> str:
    """The layer that a module is in."""
    top, *inner = module.split(".")
    if top == "actors":
        return "actors"
    if not inner:
        return "ground"
    if len(inner) > 1 or (ROOT / "rapo_ray" / inner[0]).is_dir():
        return inner[0]
    return "commands" if inner[0] in COMMANDS else "ground"


def sources() -> dict[str, ast.Module]:
    """Every module of both packages, parsed."""
    result = {}
    for package in ("rapo_ray", "actors"):
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            result[name] = ast.parse(path.read_text(encoding="utf-8"))
    return result


def imported(tree: ast.Module, modules: Mapping[str, object]) -> Iterator[str]:
    """The modules of ours that a module imports anywhere, inside functions and for type checkers too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                if inner in modules or node.module in modules:
                    yield inner if inner in modules else node.module


def graph(trees: Mapping[str, ast.Module]) -> Graph:
    return {name: frozenset(imported(tree, trees)) - {name} for name, tree in trees.items()}


def upward(edges: Graph) -> list[str]:
    """Imports of a layer above one's own."""
    rank = {name: number for number, name in enumerate(LAYERS)}
    return sorted(
        f"{name} ({layer(name)}) imports {other} ({layer(other)})"
        for name, others in edges.items()
        for other in others
        if rank[layer(other)] > rank[layer(name)] and (name, other) not in UPWARD
    )


def circles(edges: Graph) -> list[list[str]]:
    """Groups of modules that import each other in a ring (strongly connected components, after Tarjan)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    result: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(edges.get(name, ())):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            ring = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(ring) > 1:
                result.append(sorted(ring))

    for name in sorted(edges):
        if name not in index:
            visit(name)
    return result


def test_each_layer_imports_from_below() -> None:
    assert upward(graph(sources())) == []


def test_nothing_imports_in_a_circle() -> None:
    assert circles(graph(sources())) == []


def test_every_folder_has_its_place() -> None:
    folders = {path.parent.name for path in (ROOT / "rapo_ray").glob("*/__init__.py")}
    assert folders == set(LAYERS) - {"ground", "actors", "commands"}


def test_an_upward_import_is_seen_wherever_it_stands() -> None:
    lazily = ast.parse("def f():\n    from rapo_ray.pipeline.run import run\n")
    trees = {"rapo_ray.config.run": lazily, "rapo_ray.pipeline.run": ast.parse("import rapo_ray.config.run")}
    assert upward(graph(trees)) == ["rapo_ray.config.run (config) imports rapo_ray.pipeline.run (pipeline)"]
    assert circles(graph(trees)) == [["rapo_ray.config.run", "rapo_ray.pipeline.run"]]


def test_folders_stay_small() -> None:
    for folder in [ROOT / "rapo_ray", ROOT / "actors", *(ROOT / "rapo_ray").glob("*/")]:
        limit = {"rapo_ray": 18, "data": 30}.get(folder.name, 20)
        assert len(list(folder.glob("*.py"))) <= limit, folder
