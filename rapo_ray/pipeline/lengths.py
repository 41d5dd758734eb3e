"""Prompts that are too long for the engines: all named at once, or left out where the config says so (pure)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from rapo_ray.errors import DataError, named
from rapo_ray.pipeline.inputs import Inputs
from rapo_ray.storage.records import LeftOutRow
from rapo_ray.types import Prompt


def fitting(inputs: Inputs, lengths: Mapping[str, int], limit: int, refuse: bool) -> tuple[Inputs, list[LeftOutRow]]:
    """The inputs without training and held-out prompts of more than `limit` tokens, and a row for each of those.

    `lengths` are tokens by prompt id. Raises DataError that names them where `refuse` is set, or nothing is left.
    """
    long = [one for one in [*inputs.train_P, *inputs.heldout_P] if lengths[one.id] > limit]
    if not long:
        return inputs, []
    places = named([f"{one.id} has {lengths[one.id]}" for one in long])
    if refuse:
        raise DataError(
            f"{len(long)} prompts have more tokens than rollout.max_prompt_tokens={limit} ({places}): raise the limit, "
            "or set data.long_prompts=leave_out"
        )
    train_P, heldout_P = (_short(each, lengths, limit) for each in (inputs.train_P, inputs.heldout_P))
    rest = replace(inputs, train_P=train_P, heldout_P=heldout_P)
    for setting, before, after in (
        ("data.train", inputs.train_P, rest.train_P), ("data.heldout", inputs.heldout_P, rest.heldout_P)
    ):  # fmt: skip
        if before and not after:
            raise DataError(
                f"{setting}: every prompt has more tokens than rollout.max_prompt_tokens={limit} ({places}); raise it"
            )
    reason = f"more tokens than rollout.max_prompt_tokens={limit}"
    return rest, [LeftOutRow(place=one.id, reason=f"{lengths[one.id]} tokens, {reason}") for one in long]


def _short(prompts: Sequence[Prompt], lengths: Mapping[str, int], limit: int) -> list[Prompt]:
    return [one for one in prompts if lengths[one.id] <= limit]
