"""Pages of the site that are generated: README and its siblings, every setting, every module."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pydantic import BaseModel

from rapo_ray.config.run import RunConfig
from rapo_ray.config.serving import ServeConfig
from rapo_ray.simulation.profile import Profile

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    "README.md": "index.md",
    "AGENTS.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
}
SETTINGS = """# Configuration

Every setting, generated from the code that reads it. A recipe is a YAML file of the sections under [Runs](#runs);
arguments such as `rollout.engines=2` override it, and a key that is not listed here is refused. `rapo train --config
RECIPE --dry-run` prints the resolved settings and checks that they are possible together.

"""
MODULES = """# Modules

Every module and the first line of its docstring. `LAYERS` in `tests/unit/test_layers.py` is the order in which the
folders may import each other.

"""
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
TYPES = {
    "integer": "integer",
    "number": "number",
    "string": "text",
    "boolean": "`true` or `false`",
    "object": "mapping",
}
DTYPES = ["float32", "bfloat16"]

Schema = dict[str, Any]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to those of docs/."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=page_of(ROOT / source)))
    files.append(File.generated(config, "configuration.md", content=configuration()))
    files.append(File.generated(config, "modules.md", content=modules()))
    return files


def page_of(source: Path) -> str:
    """A page of the repository's root, with its links as they are inside the site."""
    text = source.read_text("utf-8").replace("](docs/", "](")
    for name, page in PAGES.items():
        text = text.replace(f"]({name}", f"]({page}")
    return text


def configuration() -> str:
    """The page of all settings."""
    lines = [
        SETTINGS,
        "## Runs\n",
        *sections(RunConfig),
        "\n## Endpoints\n\nSettings of `rapo serve` and of `deploy/serve.yaml`.\n",
        *sections(ServeConfig),
        "\n## Simulation profiles\n\nKeys of the YAML file that `rapo simulate --profile FILE` reads.\n",
        *sections(Profile),
    ]
    return "\n".join(lines) + "\n"


def sections(model: type[BaseModel]) -> Iterator[str]:
    """A model's own settings, and then each section inside it."""
    schema = model.model_json_schema()
    yield from section(schema, "", schema.get("$defs", {}))


def section(schema: Schema, prefix: str, defs: dict[str, Schema]) -> Iterator[str]:
    """A table of a section's settings, then the sections inside it; those of one kind share a table."""
    inner: dict[str, dict[str, Schema]] = {}
    yield f"{schema['description']}\n"
    yield "| setting | type | default | |\n|---|---|---|---|"
    for key, field in schema["properties"].items():
        kind = kind_of(field)
        if kind is None:
            cells = (f"`{key}`", type_of(field), default_of(field), field["description"])
            yield f"| {' | '.join(map(cell, cells))} |"
        else:
            path = f"{prefix}{key}" + (".NAME" if "additionalProperties" in field else "")
            inner.setdefault(kind, {})[path] = field
    for kind, fields in inner.items():
        yield f"\n### {', '.join(fields)}\n"
        yield from (f"- `{path}`: {field['description']}" for path, field in fields.items() if "description" in field)
        yield ""
        yield from section(defs[kind], f"{next(iter(fields))}.", defs)


def kind_of(field: Schema) -> str | None:
    """Name of the model that a field holds, alone, or under names, or that it may hold; None for a plain value."""
    for place in (field, field.get("additionalProperties", {}), *field.get("anyOf", ())):
        name = str(place.get("$ref", "")).rpartition("/")[2]
        if name and name != "JsonValue":  # any value
            return name
    return None


def type_of(field: Schema) -> str:
    """What a value may be, in words, with its bounds."""
    if "anyOf" in field:
        return " or ".join(type_of(choice) for choice in field["anyOf"])
    if field.get("type") == "null":
        return "none"
    if "enum" in field:
        options = field["enum"] + (["auto"] if field["enum"] == DTYPES else [])
        return "one of " + ", ".join(f"`{option}`" for option in options)
    if "prefixItems" in field:
        return f"two: {type_of(field['prefixItems'][0])}"
    if "items" in field:
        return f"list: {type_of(field['items'])}"
    words = "path" if field.get("format") == "path" else TYPES[field["type"]]
    bounds = [f"{sign}\N{NO-BREAK SPACE}{field[name]:g}" for name, sign in BOUNDS.items() if name in field]
    bounds += [f"matching `{field['pattern']}`"] if "pattern" in field else []
    bounds += ["not empty"] if field.get("minLength") else []
    return " ".join([words, ", ".join(bounds)]).strip()


def default_of(field: Schema) -> str:
    """The default as YAML would have it, `none` for null."""
    if "default" not in field:
        return "required"
    default = field["default"]
    if default is None:
        return "none"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def cell(text: str) -> str:
    """A text that fits into a table's cell."""
    return " ".join(text.split()).replace("|", "\\|")


def modules() -> str:
    """The page of all modules, folder by folder."""
    lines = [MODULES]
    for folder in (*sorted((ROOT / "rapo_ray").glob("**/")), ROOT / "actors"):
        summaries = {source.stem: summary(source) for source in sorted(folder.glob("*.py"))}
        if not summaries:
            continue
        lines += [f"## {folder.relative_to(ROOT)}\n", summaries.pop("__init__"), "\n| module | |\n|---|---|"]
        lines += [f"| `{name}` | {cell(text)} |" for name, text in summaries.items()]
        lines.append("")
    return "\n".join(lines)


def summary(source: Path) -> str:
    """The first line of a module's docstring."""
    docstring = ast.get_docstring(ast.parse(source.read_text("utf-8")))
    assert docstring is not None, source
    return docstring.splitlines()[0]
