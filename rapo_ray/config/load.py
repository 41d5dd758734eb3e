"""A recipe's name or path and dotted overrides become a RunConfig; each mistake becomes one clear line."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from rapo_ray.config.run import RunConfig
from rapo_ray.errors import ConfigError

Settings = TypeVar("Settings", bound=BaseModel)

MAX_RECIPE_BYTES = 1 << 20
MAX_SHOWN = 120  # characters of a value or an override in a message


class _Loader(yaml.SafeLoader):
    """A safe YAML loader that refuses duplicate keys in a mapping, of which plain YAML takes the last."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[object, int] = {}
        for key, _ in node.value:
            name, line = (key.tag, key.value), key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode):
                if name in lines:
                    raise yaml.YAMLError(f"key `{_short(key.value)}` is in line {lines[name]} and again in line {line}")
                lines[name] = line
        return node


def shipped_recipes() -> dict[str, Path]:
    """Paths of the packaged recipes, by name."""
    folder = Path(str(files("rapo_ray") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_config(recipe: str, overrides: Sequence[str] = ()) -> RunConfig:
    """Load a packaged recipe or a YAML file and apply `a.b=value` overrides to it; raises ConfigError."""
    shipped = shipped_recipes()
    path = shipped.get(recipe, Path(recipe))
    if not path.is_file():
        raise ConfigError(f"no recipe `{recipe}`: give a YAML file or one of {', '.join(shipped)}")
    return load_settings(RunConfig, _read_yaml(path), overrides, str(path))


def load_recorded(path: Path) -> RunConfig:
    """Load the config that a run of any version recorded: keys that this one does not know are left out.

    Raises ConfigError.
    """
    if not path.is_file():
        raise ConfigError(f"no recipe `{path}`: give a YAML file")
    tree = _read_yaml(path)
    try:
        return RunConfig.model_validate(tree)
    except ValidationError as error:
        for detail in error.errors():
            if detail["type"] == "extra_forbidden":
                _remove(tree, detail["loc"])
    return load_settings(RunConfig, tree, (), str(path))


def _remove(tree: Any, location: tuple[int | str, ...]) -> None:
    for part in location[:-1]:
        tree = tree[part]
    del tree[location[-1]]


def load_settings(kind: type[Settings], tree: dict[str, object], overrides: Sequence[str], origin: str) -> Settings:
    """Settings of one kind from a tree read from `origin`, with the overrides applied; raises ConfigError."""
    for override in overrides:
        _apply(tree, override)
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        mistakes = (_explain(dict(detail), origin, overrides) for detail in error.errors())
        raise ConfigError("; ".join(mistakes)) from None


def config_hash(config: RunConfig) -> str:
    """SHA-256 of every setting that affects a run's results (not its folder, limits, cluster and the like)."""
    return hashlib.sha256(json.dumps(hashed_tree(config), sort_keys=True).encode()).hexdigest()


def hashed_tree(config: RunConfig) -> dict[str, Any]:
    """The settings that `config_hash` covers, as JSON values."""
    sections = ("out", "limits", "cluster", "checkpoint", "evaluation", "gates", "alarms", "serve", "sinks")
    return config.model_dump(mode="json", exclude={**dict.fromkeys(sections, True), "rollout": {"enforce_eager"}})


def to_yaml(config: RunConfig) -> str:
    """The resolved config as YAML that load_config reads back."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _read_yaml(path: Path) -> dict[str, object]:
    if path.stat().st_size > MAX_RECIPE_BYTES:
        raise ConfigError(f"{path}: {path.stat().st_size} bytes is no recipe (limit {MAX_RECIPE_BYTES})")
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: bad UTF-8, or a date like 2024-13-45
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: a recipe is a mapping of settings, this is {type(tree).__name__}")
    return tree


def _apply(tree: dict[str, object], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"{_named(override)}: write it as key=value, for example rollout.engines=2")
    try:
        value = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise ConfigError(f"{_named(override)}: the value is not valid YAML") from None
    node = tree
    *parents, leaf = key.split(".")
    for name in parents:
        child = node.get(name)
        if child is None:  # left out, or null as in a dumped config
            child = node[name] = {}
        if not isinstance(child, dict):
            raise ConfigError(f"{_named(override)}: `{name}` is a value, not a section")
        node = child
    node[leaf] = value


def _explain(detail: Mapping[str, object], path: str, overrides: Sequence[str]) -> str:
    location = detail["loc"]
    assert isinstance(location, tuple)
    key = ".".join(str(part) for part in location)
    origin = _origin(key, str(detail["msg"]), path, overrides)
    if detail["type"] == "extra_forbidden":
        return f"{origin}: unknown key `{key}` (value {_short(repr(detail['input']))}): check the spelling, see --help"
    message = str(detail["msg"]).removeprefix("Value error, ")
    shown = "" if isinstance(detail["input"], dict) else f" = {_short(repr(detail['input']))}"
    return f"{origin}: {f'`{key}`{shown}: ' if key else ''}{message}"


def _origin(key: str, message: str, path: str, overrides: Sequence[str]) -> str:
    """The overrides that set the key, a part of it or its section; without a key, those that the message names."""

    def concerns(name: str) -> bool:
        if not key:
            return re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", message) is not None
        return name == key or key.startswith(f"{name}.") or name.startswith(f"{key}.")

    last = {name: override for override in overrides if concerns(name := override.partition("=")[0])}
    return ", ".join(map(_named, last.values())) or path


def _named(override: str) -> str:
    return f"override `{_short(' '.join(override.split()))}`"


def _short(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."
