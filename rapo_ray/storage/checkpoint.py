"""Atomic checkpoints: written under a temporary name, hashed, renamed, marked last; readers look for the mark.

A SHA-256 manifest finds corruption. It is no defence against somebody who can write to the folder.
"""

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rapo_ray.atomic import sync
from rapo_ray.errors import CheckpointError, RapoError
from rapo_ray.storage.json_records import to_json
from rapo_ray.storage.layout import round_name, round_of
from rapo_ray.storage.reader import read_object

MANIFEST = "manifest.json"
MARK = "COMPLETE"
STATE = "state.json"


@dataclass(frozen=True, slots=True)
class RunState:
    """Content of state.json: state of a run after a round, beside its policy."""

    config: str  # hash
    round: int
    sampler: dict[str, int | str]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A complete, verified checkpoint."""

    folder: Path
    state: RunState

    @property
    def policy(self) -> Path:
        """Folder of the policy's files."""
        return self.folder / "policy"


class CheckpointStore:
    """Checkpoints of one run."""

    def __init__(self, folder: Path, keep: int) -> None:
        self._folder = folder
        self._keep = keep

    def write(self, state: RunState, save_policy: Callable[[Path], None]) -> Checkpoint:
        """Write one; raises CheckpointError where the disk refuses, and the older ones stay as they were."""
        final = self._folder / round_name(state.round)
        temporary = final.with_suffix(".tmp")
        try:
            for stale in self._folder.glob("round-*.tmp"):  # of killed writes, of any round
                _remove(stale)
            _remove(final)  # a leftover without its mark
            (temporary / "policy").mkdir(parents=True)
            save_policy(temporary / "policy")
            (temporary / STATE).write_text(json.dumps(to_json(state), sort_keys=True), encoding="utf-8")
            (temporary / MANIFEST).write_text(json.dumps(_hash_files(temporary), indent=1), encoding="utf-8")
            _sync_tree(temporary)
            os.replace(temporary, final)
            (final / MARK).touch()
            sync(final)
            sync(self._folder)
        except (OSError, RapoError) as error:
            why = "the disk is full" if _is_full(error, temporary) else str(error)
            with contextlib.suppress(OSError):
                _remove(temporary)
            raise CheckpointError(self._explain(final, why)) from error
        self._prune()
        return Checkpoint(final, state)

    def latest(self) -> Checkpoint | None:
        """Newest checkpoint, verified, or None where there is none; raises CheckpointError or ReportError."""
        rounds = complete_rounds(self._folder)
        if not rounds:
            return None
        number = rounds[-1]
        folder = self._folder / round_name(number)
        if problem := _verify(folder):
            older = f"; remove that folder to resume from round {rounds[-2]}" if len(rounds) > 1 else ""
            raise CheckpointError(f"{folder} is corrupt: {problem}{older}")
        return Checkpoint(folder, read_object(RunState, folder / STATE))

    def _prune(self) -> None:
        for number in complete_rounds(self._folder)[: -self._keep]:
            _remove(self._folder / round_name(number))

    def _explain(self, final: Path, why: str) -> str:
        rounds = complete_rounds(self._folder)
        earlier = f"the checkpoint of round {rounds[-1]} is kept" if rounds else "there is no earlier checkpoint"
        return f"cannot write {final}: {why}; {earlier}; make room and run the same command to resume"


def complete_rounds(folder: Path) -> list[int]:
    """Rounds of the complete checkpoints in a folder, in order."""
    marks = folder.glob(f"*/{MARK}")
    return sorted(number for mark in marks if (number := round_of(mark.parent.name)) is not None)


def _is_full(error: Exception, partial: Path) -> bool:
    """True where the disk had no room; torch's own writer hides the reason, so the free space is checked too."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    written = sum(path.stat().st_size for path in partial.rglob("*") if path.is_file())
    return shutil.disk_usage(partial.parent).free < written


def _hash_files(folder: Path) -> dict[str, dict[str, object]]:
    return {
        str(path.relative_to(folder)): {"size": path.stat().st_size, "sha256": _digest(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _verify(folder: Path) -> str | None:
    """Problem of a checkpoint, or None where each file is inside the folder, no link, and as it was written."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files = {str(name): dict(entry) for name, entry in manifest.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        return f"{MANIFEST} cannot be read ({type(error).__name__})"
    for name, entry in files.items():
        path = folder / name
        if not path.is_file() or path.is_symlink() or not path.resolve().is_relative_to(folder.resolve()):
            return f"{name} is missing, a link, or outside the folder"
        if path.stat().st_size != entry.get("size"):
            return f"{name} has {path.stat().st_size} bytes, {entry.get('size')} were written"
        if _digest(path) != entry.get("sha256"):
            return f"{name} does not have the SHA-256 that was written"
    extra = set(_files(folder)) - set(files) - {MANIFEST, MARK}
    return f"{min(extra)} is not in {MANIFEST}" if extra else None


def _files(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_tree(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        sync(path)


def _remove(folder: Path) -> None:
    if folder.is_dir():
        shutil.rmtree(folder)
