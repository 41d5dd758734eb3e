"""Targets of an evaluation: a run, a model's folder, a hub model or an endpoint."""

from dataclasses import dataclass
from pathlib import Path

from rapo_ray.errors import ModelError
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


def is_url(spec: str) -> bool:
    """True for an http(s) address."""
    return spec.startswith(("http://", "https://"))


def run_folder(spec: str) -> Path | None:
    """Folder of a finished run, where the spec names one."""
    run = RunLayout(Path(spec))
    return run.path if run.config.is_file() and run.model.is_dir() else None


def resolve_target(spec: str, name: str, served_name: str | None, token_file: Path | None) -> Target:
    """Resolve the target that a spec names; raises ModelError."""
    from rapo_ray.models.folder import fingerprint
    from rapo_ray.models.resolve import resolve_model

    if is_url(spec):
        if served_name is None:
            raise ModelError(f"{spec} is an endpoint: say which of its models to ask with --served-name")
        return Target(name, f"{served_name} at {spec}", None, None, spec, served_name, token_file)
    run = run_folder(spec)
    path = resolve_model(str(RunLayout(run).model) if run else spec)
    return Target(name, spec, path, fingerprint(path))
