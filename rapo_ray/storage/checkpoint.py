"""Atomic checkpoints: written under a temporary name, hashed, renamed, marked last; readers look for the mark.

A write goes on beside the next round. One is in flight at a time, and nothing forgets it: its failure is raised by the
next one, or where the rounds end.

A SHA-256 manifest finds corruption. It is no defence against somebody who can write to the folder.
"""

import contextlib
import errno
import json
import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from rapo_ray.atomic import sync
from rapo_ray.errors import ActorDied, CheckpointError, RapoError
from rapo_ray.roles import Saved
from rapo_ray.storage.json_records import to_json
from rapo_ray.storage.layout import round_name, round_of
from rapo_ray.storage.reader import read_object
from rapo_ray.trainer.files import sha256_of

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
MARK = "COMPLETE"
STATE = "state.json"


@dataclass(frozen=True, slots=True)
class RunState:
    """Content of state.json: state of a run after a round, beside its policy."""

    config: str  # hash
    round: int
    sampler: dict[str, int | str]
    attacker: dict[str, object] | None = None  # None without one, and in checkpoints of earlier versions
    multiplier: float = 0.0  # of the bound on over-refusal


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
        self._in_flight: tuple[int, Future[None]] | None = None  # round and end of a write

    def begin(self, state: RunState, save_policy: Callable[[Path], Saved]) -> None:
        """Begin to write one, after the one before; the older ones stay as they are until it is complete.

        Raises CheckpointError where the disk refuses, ActorDied where the policy dies: in this call, in the next, or in
        `wait`.
        """
        self.wait()
        final = self._folder / round_name(state.round)
        temporary = final.with_suffix(".tmp")
        with self._explained(final, temporary):
            for stale in self._folder.glob("round-*.tmp"):  # of killed writes, of any round
                _remove(stale)
            _remove(final)  # a leftover without its mark
            (temporary / "policy").mkdir(parents=True)
            saved = save_policy(temporary / "policy")
        end = Future[None]()
        self._in_flight = state.round, end

        def work() -> None:
            try:
                with self._explained(final, temporary):
                    self._finish(temporary, final, state, saved())
                self._prune()
                end.set_result(None)
            except BaseException as error:
                end.set_exception(error)

        threading.Thread(target=work, name="checkpoint", daemon=True).start()

    def wait(self) -> None:
        """Wait for the write in flight; raises what made it fail."""
        if self._in_flight is None:
            return
        number, end = self._in_flight
        if not end.done():
            log.info("waiting for the checkpoint of round %d", number)
        error = end.exception()
        self._in_flight = None  # not before: where an interrupt ends this wait, the next one goes on
        if error is not None:
            raise error

    @contextlib.contextmanager
    def finishing(self) -> Iterator[None]:
        """Wait for the write in flight where the body ends, however it does; raises what made the write fail."""
        try:
            yield
        except KeyboardInterrupt:  # stays one: nothing may start over then
            try:
                self.wait()
            except (OSError, RapoError) as error:
                log.warning("%s", error)
            raise
        except Exception:  # it may follow from a write that failed, which then is what to tell
            self.wait()
            raise
        self.wait()

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

    def _finish(self, temporary: Path, final: Path, state: RunState, sums: dict[str, str]) -> None:
        (temporary / STATE).write_text(json.dumps(to_json(state), sort_keys=True), encoding="utf-8")
        known = {f"policy/{name}": sha for name, sha in sums.items()} | {STATE: sha256_of(temporary / STATE)}
        (temporary / MANIFEST).write_text(json.dumps(_manifest(temporary, known), indent=1), encoding="utf-8")
        for path in [temporary, *temporary.rglob("*")]:
            sync(path)
        os.replace(temporary, final)
        (final / MARK).touch()
        sync(final)
        sync(self._folder)

    @contextlib.contextmanager
    def _explained(self, final: Path, temporary: Path) -> Iterator[None]:
        """Remove a write that fails, and say which it was; where an actor died, that is what the run must know."""
        try:
            yield
        except (OSError, RapoError) as error:
            why = "the disk is full" if _is_full(error, temporary) else str(error)
            with contextlib.suppress(OSError):
                _remove(temporary)
            if isinstance(error, ActorDied):
                raise
            raise CheckpointError(self._explain(final, why)) from error

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


def _manifest(folder: Path, sums: dict[str, str]) -> dict[str, dict[str, object]]:
    """Size and SHA-256 of every file; raises CheckpointError where a file has no SHA-256, or the other way round."""
    files = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
    if odd := files.keys() ^ sums.keys():
        raise CheckpointError(f"{min(odd)} was {'hashed by no rank' if min(odd) in files else 'hashed, and is gone'}")
    return {name: {"size": path.stat().st_size, "sha256": sums[name]} for name, path in files.items()}


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
        if sha256_of(path) != entry.get("sha256"):
            return f"{name} does not have the SHA-256 that was written"
    present = {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}
    extra = present - set(files) - {MANIFEST, MARK}
    return f"{min(extra)} is not in {MANIFEST}" if extra else None


def _remove(folder: Path) -> None:
    if folder.is_dir():
        shutil.rmtree(folder)
