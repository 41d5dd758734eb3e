"""A model as every node can resolve it for itself: paths of the driver's node need not exist on others."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Self

from rapo_ray.errors import ModelError
from rapo_ray.models.resolve import HUB_PATTERNS, hub_snapshot, is_offline


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model's folder on the driver's node with the names of its files, and its id and commit if the hub has it."""

    folder: Path
    files: tuple[str, ...]
    hub_id: str | None
    commit: str | None
    offline: bool  # as the driver is; actors are always, so that nothing else asks the hub

    @classmethod
    def of(cls, folder: Path) -> Self:
        """The source of a model that this node has; one of the hub is known by where the hub's client keeps it."""
        folder = folder.absolute()
        names = sorted(path.name for path in folder.iterdir() if path.is_file())
        cached, repository = folder.parent, folder.parent.parent.name
        from_hub = cached.name == "snapshots" and repository.startswith("models--")
        hub_id = repository.removeprefix("models--").replace("--", "/") if from_hub else None
        if from_hub:  # other nodes fetch these only, whatever else is in the driver's cache
            names = [name for name in names if any(fnmatch(name, pattern) for pattern in HUB_PATTERNS)]
        return cls(folder, tuple(names), hub_id, folder.name if from_hub else None, is_offline())

    def on_this_node(self) -> Path:
        """The model's folder on this node, fetched from the hub at the driver's commit if need be; raises ModelError.

        Actors that fetch it at once wait for each other, file by file: the hub's client locks them.
        """
        if self._complete(self.folder):
            return self.folder
        why = f"model {self.folder} is not whole"
        if self.hub_id is not None:
            try:
                with _hub_allowed(not self.offline):
                    folder = hub_snapshot(self.hub_id, self.commit, self.offline)
                if self._complete(folder):
                    return folder
            except ModelError as error:
                why = str(error)
        raise ModelError(f"node {socket.gethostname()}: {why}; put the model on storage that all nodes share")

    def _complete(self, folder: Path) -> bool:
        """True where every file is there: the hub's client gives a file its name once it has all of it."""
        return all((folder / name).is_file() for name in self.files)


@contextmanager
def _hub_allowed(allowed: bool) -> Iterator[None]:
    """Let this process use the hub for a while; its client reads HF_HUB_OFFLINE only as it is imported."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = not allowed
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
