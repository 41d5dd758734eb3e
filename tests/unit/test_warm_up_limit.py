"""The warm-up's time limit: it holds for a trainer that hangs, and what the trainer raises comes through as it is."""

from threading import Event
from typing import Any

import pytest

from actors.sft import fit_in_thread
from rapo_ray.errors import TrainingError

pytestmark = pytest.mark.unit


class HangingTrainer:
    """A trainer that waits until the test lets it go."""

    def __init__(self) -> None:
        self.released = Event()

    def fit(self) -> None:
        self.released.wait()


class FailingTrainer:
    """A trainer that misses a limit of its own."""

    def fit(self) -> None:
        raise TimeoutError("no worker in 5 s")


def test_a_warm_up_that_hangs_ends_at_its_limit() -> None:
    trainer: Any = HangingTrainer()
    with pytest.raises(TrainingError, match=r"took longer than limits\.warmup=0\.05 s: raise it"):
        fit_in_thread(trainer, 0.05)
    trainer.released.set()


def test_a_time_limit_of_the_trainer_s_own_is_not_taken_for_ours() -> None:
    trainer: Any = FailingTrainer()
    with pytest.raises(TimeoutError, match="no worker in 5 s"):
        fit_in_thread(trainer, 600)
