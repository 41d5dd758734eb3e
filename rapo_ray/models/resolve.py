"""Model names to folders with weights and a tokenizer.

A model is named in one of three ways: ``embedded:NAME`` (a small model inside a Python package, for which a package
index is enough), a local folder, or a hub id ``org/name``. Code that comes with a model is never run.
"""

import os
import re
from pathlib import Path

from rapo_ray.config import RunConfig
from rapo_ray.errors import ModelError
from rapo_ray.models.embedded import EMBEDDED_PREFIX, cached_embedded, embedded_model, embedded_names
from rapo_ray.models.folder import TOKENIZER_FILES, check_model_folder, one_line

HUB_PATTERNS = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model")

RUN_CONFIG, RUN_MODEL = "config.yaml", "model"  # in a run's folder, which is named in place of its model

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def resolve_model(spec: str, revision: str | None = None, cache_dir: Path | None = None) -> Path:
    """Folder of the model that the spec names, a run's folder included, downloaded first if need be; raises ModelError.

    ``cache_dir`` is for embedded models (default: `cache_root`); hub models stay in the hub client's own cache.
    """
    if spec.startswith(EMBEDDED_PREFIX):
        _refuse_revision(spec, revision)
        return embedded_model(spec.removeprefix(EMBEDDED_PREFIX), cache_dir or cache_root())
    if (folder := _folder_of(spec)) is not None:
        _refuse_revision(spec, revision)
        check_model_folder(folder)
        return folder
    return hub_snapshot(spec, revision, is_offline())


def local_model(spec: str, revision: str | None = None) -> Path | None:
    """Folder of a model whose tokenizer is on this machine already; None where it would have to be fetched.

    Raises ModelError for a name that is none.
    """
    if spec.startswith(EMBEDDED_PREFIX):
        return cached_embedded(spec.removeprefix(EMBEDDED_PREFIX), cache_root())
    if (folder := _folder_of(spec)) is not None:
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        snapshot = Path(snapshot_download(spec, revision=revision, local_files_only=True))
    except HFValidationError as error:
        raise ModelError(f"model {spec!r}: {one_line(str(error))}") from None
    except LocalEntryNotFoundError:
        return None
    return snapshot if any((snapshot / name).is_file() for name in TOKENIZER_FILES) else None


def _folder_of(spec: str) -> Path | None:
    """The folder that a spec names, of a run its model's; None for a hub id, ModelError for anything else."""
    folder = Path(spec).expanduser()
    if not folder.is_dir():
        if folder.exists() or not _HUB_ID.fullmatch(spec):
            raise ModelError(
                f"model {spec!r}: no such folder; give a folder, a hub id org/name, or one of {embedded_names()}"
            )
        return None
    if (folder / RUN_CONFIG).is_file():
        if not (folder / RUN_MODEL).is_dir():
            raise ModelError(f"model {spec!r}: this run has no model yet; finish it with the command that started it")
        return folder / RUN_MODEL
    for place in (folder, *list(folder.absolute().parents)[:2]):
        if place.name == "checkpoints" and (place.parent / RUN_CONFIG).is_file():
            raise ModelError(
                f"model {spec!r}: a checkpoint only resumes its run; give the run's folder {place.parent} once it is "
                "finished"
            )
    return folder


def judge_models(config: RunConfig) -> dict[str, Path]:
    """Folders of the vllm judges' models, by part; raises ModelError."""
    return {
        part: Path(resolve_model(backend.model, backend.revision))
        for part, backend in config.judge.named().items()
        if backend.backend == "vllm" and backend.model is not None
    }


def cache_root() -> Path:
    """The user's cache folder: $RAPO_CACHE, else rapo_ray in $XDG_CACHE_HOME, else ~/.cache/rapo_ray."""
    if own := os.environ.get("RAPO_CACHE"):
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "rapo_ray"


def _refuse_revision(spec: str, revision: str | None) -> None:
    if revision is not None:
        raise ModelError(f"model {spec!r}: revision {revision!r} makes sense only for a hub id org/name; leave it out")


def is_offline() -> bool:
    """True where HF_HUB_OFFLINE forbids this process to use the hub."""
    return os.environ.get("HF_HUB_OFFLINE", "").lower() in {"1", "true", "yes", "on"}


def hub_snapshot(repo: str, revision: str | None, offline: bool) -> Path:
    """Folder of a hub model in the hub client's cache, downloaded first unless `offline`; raises ModelError."""
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            repo,
            revision=revision,
            allow_patterns=list(HUB_PATTERNS),
            ignore_patterns=[
                "*/*",
                "consolidated*",
                "params.json",
            ],  # second copies of the weights, and Mistral's own form
            local_files_only=offline,
        )
    except Exception as error:  # the client passes on whatever its HTTP library raises; for the user it is one error
        at = f" at revision {revision}" if revision else ""
        if offline:
            why = "it is not in the hub cache, and HF_HUB_OFFLINE forbids fetching it"
        else:
            why = f"the hub did not give it: {one_line(str(error)) or type(error).__name__}"
        raise ModelError(f"model {repo!r}{at}: no such folder, and {why}") from error
    check_model_folder(Path(folder))
    return Path(folder)
