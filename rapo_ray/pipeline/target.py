"""Targets of an evaluation: a run, a model's folder, a hub model or an endpoint."""

from dataclasses import dataclass
from pathlib import Path

from rapo_ray.config.thinking import ThinkingConfig
from rapo_ray.errors import ModelError
from rapo_ray.models.chat import PLAIN, ChatFormat
from rapo_ray.storage.layout import RunLayout


@dataclass(frozen=True, slots=True)
class Target:
    """One model under evaluation."""

    name: str  # of its rows and files
    id: str
    path: Path | None  # of a model on disk
    revision: str | None
    url: str | None = None
    served_name: str | None = None  # the endpoint's name for the model
    token_file: Path | None = None
    chat: ChatFormat = PLAIN


def run_folder(spec: str) -> Path | None:
    """Folder of a finished run, where the spec names one."""
    run = RunLayout(Path(spec))
    return run.path if run.config.is_file() and run.model.is_dir() else None


def resolve_target(
    spec: str, name: str, thinking: ThinkingConfig, served_name: str | None = None, token_file: Path | None = None
) -> Target:
    """Resolve the target that a spec names, with its chat format; raises ModelError."""
    from rapo_ray.models.chat_template import format_of_folder, stated_format
    from rapo_ray.models.folder import fingerprint
    from rapo_ray.models.resolve import resolve_model

    if spec.startswith(("http://", "https://")):
        if served_name is None:
            raise ModelError(f"{spec} is an endpoint: say which of its models to ask with --served-name")
        return Target(
            name, f"{served_name} at {spec}", None, None, spec, served_name, token_file, stated_format(thinking)
        )
    run = run_folder(spec)
    path = resolve_model(str(RunLayout(run).model) if run else spec)
    return Target(name, spec, path, fingerprint(path), chat=format_of_folder(path, thinking))
