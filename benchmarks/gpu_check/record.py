"""The JSON file of the check: written anew after every figure, so that a kill loses nothing."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rapo_ray.atomic import write_json_atomically


@dataclass(frozen=True, slots=True)
class Record:
    """One stage's part of the file. Stages run one after another: nobody else writes meanwhile."""

    path: Path
    stage: str

    def read(self) -> dict[str, Any]:
        """The stage's figures so far."""
        stages: dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8"))["stages"]
        return dict(stages.get(self.stage, {}))

    def add(self, **figures: object) -> None:
        """Add figures to the stage."""
        content = json.loads(self.path.read_text(encoding="utf-8"))
        content["stages"].setdefault(self.stage, {}).update(figures)
        write_json_atomically(self.path, content)

    def append(self, name: str, item: dict[str, Any]) -> None:
        """Add an item to one of the stage's lists, and print it."""
        print(f"{self.stage}: {json.dumps(item)}", flush=True)
        self.add(**{name: [*self.read().get(name, []), item]})


@dataclass(frozen=True, slots=True)
class Check:
    """A stage's input: the models and lengths to measure, the device, and the time limit."""

    shapes: tuple[str, ...]
    tokens: tuple[int, ...]  # of a sequence, the most valuable length first
    device: str  # gpu or cpu
    models: Path  # folder of the random models, which stages share
    ends: float  # of time.monotonic(): no case begins afterwards

    @property
    def on_gpu(self) -> bool:
        """True where the check runs on a GPU."""
        return self.device == "gpu"

    @property
    def time_left(self) -> bool:
        """True as long as another case may begin."""
        return time.monotonic() < self.ends


def gib(size: float) -> float:
    """Bytes in GiB."""
    return size / 2**30


def one_line(error: BaseException) -> str:
    """An error as one line."""
    return f"{type(error).__name__}: {error}".splitlines()[0]
