"""What can be evaluated: a run, a checkpoint, a hub model or an endpoint."""

from dataclasses import dataclass
from pathlib import Path

from rapo_ray.errors import ModelError


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
    """The folder of a run, where the spec names one."""
    folder = Path(spec)
    return folder if (folder / "config.yaml").is_file() and (folder / "model").is_dir() else None


def resolve_target(spec: str, name: str, served_name: str | None, token_file: Path | None) -> Target:
    """The target that a spec names; raises ModelError."""
    from rapo_ray.models.folder import fingerprint
    from rapo_ray.models.resolve import resolve_model

    if is_url(spec):
        if served_name is None:
            raise ModelError(f"{spec} is an endpoint: say which of its models to ask with --served-name")
        return Target(name, f"{served_name} at {spec}", None, None, spec, served_name, token_file)
    run = run_folder(spec)
    path = resolve_model(str(run / "model") if run else spec)
    return Target(name, spec, path, fingerprint(path))
