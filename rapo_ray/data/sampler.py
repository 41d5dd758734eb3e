"""Batches of prompts in a seeded order that resumes exactly."""

import hashlib
import json
import random
from collections.abc import Mapping, Sequence

from rapo_ray.errors import ConfigError, DataError
from rapo_ray.types import Prompt

State = dict[str, int | str]


class PromptSampler:
    """Endless batches: every prompt once per epoch, each epoch in its own order; batches may span two epochs.

    Batches are stratified: each has, as nearly as possible, the whole set's shares of harmful and benign prompts of
    each level, since a round of mostly one kind would push the policy towards that kind everywhere.

    A batch that spans two epochs, or is larger than the set, may contain a prompt twice.
    """

    def __init__(self, prompts: Sequence[Prompt], batch_size: int, seed: int) -> None:
        """Start at the first epoch; raises DataError without prompts and ConfigError for a batch size below 1."""
        if not prompts:
            raise DataError("no prompts to sample from; the recipe must give at least one")
        if batch_size < 1:
            raise ConfigError(f"batch size is {batch_size}, must be at least 1")
        self._prompts = tuple(prompts)
        self._batch_size = batch_size
        self._content = _content_hash(self._prompts)
        self._enter(seed, epoch=0, position=0)

    def next_batch(self) -> list[Prompt]:
        """The next `batch_size` prompts."""
        return [self._next() for _ in range(self._batch_size)]

    def state(self) -> State:
        """The sampler's position, as plain JSON values."""
        return {
            "seed": self._seed,
            "epoch": self._epoch,
            "position": self._position,
            "prompts": len(self._prompts),
            "content": self._content,
        }

    def restore(self, state: Mapping[str, object]) -> None:
        """Continue exactly from `state`, with its seed; raises DataError where it belongs to other prompts."""
        if state.get("content") != self._content:
            raise DataError(
                f"sampler state is from other data ({state.get('prompts')} prompts, content "
                f"{state.get('content')}) than the recipe now gives ({len(self._prompts)} prompts, content "
                f"{self._content}); resume with the same recipe, seed and files, or start a new run"
            )
        seed, epoch, position = (_whole(state, key) for key in ("seed", "epoch", "position"))
        if epoch < 0 or not 0 <= position < len(self._prompts):
            raise DataError(f"sampler state has epoch {epoch} and position {position} of {len(self._prompts)} prompts")
        self._enter(seed, epoch, position)

    def _next(self) -> Prompt:
        prompt = self._prompts[self._order[self._position]]
        if self._position + 1 == len(self._order):
            self._enter(self._seed, self._epoch + 1, position=0)
        else:
            self._position += 1
        return prompt

    def _enter(self, seed: int, epoch: int, position: int) -> None:
        self._seed, self._epoch, self._position = seed, epoch, position
        # Not the sum of both: seed 1 would then repeat the epochs of seed 0, shifted by one.
        self._order = _stratified_order(self._prompts, random.Random(f"{seed}/{epoch}"))


def _stratified_order(prompts: Sequence[Prompt], generator: random.Random) -> list[int]:
    """A shuffled order in which every stratum is distributed evenly, from its own random start."""
    strata: dict[tuple[bool, int], list[int]] = {}
    for index, prompt in enumerate(prompts):
        strata.setdefault((prompt.harmful, prompt.level or 0), []).append(index)
    placed: list[tuple[float, int]] = []
    for indices in strata.values():
        generator.shuffle(indices)
        offset = generator.random()
        placed += [((place + offset) / len(indices), index) for place, index in enumerate(indices)]
    return [index for _, index in sorted(placed)]


def _content_hash(prompts: Sequence[Prompt]) -> str:
    # Text and labels too: where ids are row numbers, another file with as many rows has the same ids.
    digest = hashlib.sha256()
    for prompt in prompts:
        digest.update(json.dumps([prompt.id, *prompt.wording, prompt.harmful, prompt.level]).encode() + b"\n")
    return digest.hexdigest()[:16]


def _whole(state: Mapping[str, object], key: str) -> int:
    value = state.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise DataError(f"sampler state has {key} {value!r}, expected a whole number")
    return value
