"""Turns on a card that a policy rank shares with an engine: its states in host memory, and the reference's weights.

The time-shared layout (`rollout.colocate`). On CPU the same moves happen within host memory.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


class CardStates:
    """All states of a DeepSpeed engine with ZeRO: weights, float32 masters, optimizer states and gradient buffers."""

    def __init__(self, engine: Any, zero_stage: int, offloaded: bool) -> None:
        self._engine = engine
        self._zero_stage = zero_stage
        self._offloaded = offloaded  # masters and optimizer states are in host memory anyway (`policy.offload`)
        self._away = False

    def leave(self) -> None:
        """Move them to host memory; does nothing where they are there already."""
        from deepspeed.runtime.zero.offload_states import offload_optimizer_states

        if self._away:
            return
        pin = self._engine.device.type == "cuda"
        self._engine.offload_states(include=self._by_deepspeed(), pin_memory=pin)
        if self._moves_optimizer:
            offload_optimizer_states(self._inner, "cpu", pin_memory=pin)
        self._move_others("cpu")
        self._away = True

    def come_back(self) -> None:
        """Move them to the card again."""
        from deepspeed.runtime.zero.offload_states import reload_optimizer_states

        if not self._away:
            return
        device = self._engine.device
        self._engine.reload_states()
        if self._moves_optimizer:
            reload_optimizer_states(self._inner, device)
        self._move_others(device)
        self._away = False

    @property
    def _moves_optimizer(self) -> bool:
        """True at stage 3, where DeepSpeed moves the states of its own FusedAdam only, and ours is torch's."""
        return self._zero_stage == 3 and not self._offloaded

    @property
    def _inner(self) -> Any:
        return self._engine.optimizer.optimizer

    def _by_deepspeed(self) -> list[Any]:
        """States that DeepSpeed moves; with adapters it does not find their weights at stage 3, where they may stay."""
        from deepspeed.runtime.zero.offload_config import OffloadStateTypeEnum as State

        if self._zero_stage == 3:
            masters = [State.contiguous_grad_buffer]
        else:
            masters = [] if self._offloaded else [State.hp_params, State.optim_states]
        frozen = any(not parameter.requires_grad for parameter in self._engine.module.parameters())
        weights = [] if frozen and self._zero_stage == 3 else [State.lp_params]
        return [*weights, State.lp_grads, *masters]

    def _move_others(self, device: "torch.device | str") -> None:
        """Move the masters of stage 3 and frozen weights, which DeepSpeed leaves where they are."""
        if self._moves_optimizer:
            for masters in self._engine.optimizer.fp32_partitioned_groups_flat:
                masters.data = masters.data.to(device)
        for parameter in self._engine.module.parameters():
            if not parameter.requires_grad:
                shard = shard_of(parameter)
                shard.data = shard.data.to(device)
        if str(device) == "cpu" and self._engine.device.type == "cuda":
            torch.cuda.empty_cache()


class StartWeights:
    """The weights that training started from, in host memory, sharded as the policy's are."""

    def __init__(self, engine: Any, zero_stage: int) -> None:
        self._engine = engine
        self._zero_stage = zero_stage
        self._adapters = [module for module in engine.module.modules() if hasattr(module, "lora_A")]
        self._held: list[torch.Tensor] = []
        if not self._adapters:
            self._release()
            pin = engine.device.type == "cuda"
            for shard in self._shards():
                copy = torch.empty_like(shard, device="cpu", pin_memory=pin)
                self._held.append(copy.copy_(shard))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Compute with these weights meanwhile: they change places with the policy's, or adapters count nothing."""
        scales = [dict(adapter.scaling) for adapter in self._adapters]
        self._exchange()
        for adapter in self._adapters:
            adapter.scaling.update(dict.fromkeys(adapter.scaling, 0.0))
        try:
            yield
        finally:
            for adapter, scale in zip(self._adapters, scales, strict=True):
                adapter.scaling.update(scale)
            self._exchange()

    def _exchange(self) -> None:
        if not self._held:
            return
        self._release()
        for shard, held in zip(self._shards(), self._held, strict=True):
            on_card = shard.detach().clone()
            shard.copy_(held)
            held.copy_(on_card)

    def _shards(self) -> Iterator[torch.Tensor]:
        return (shard_of(parameter).data for parameter in self._engine.module.parameters())

    def _release(self) -> None:
        """Drop gathered copies of small parameters, which ZeRO-3 keeps: they would not follow their shards."""
        if self._zero_stage == 3:
            self._engine.optimizer.empty_partition_cache()


def shard_of(parameter: torch.nn.Parameter) -> Any:
    """A rank's shard of a parameter under ZeRO-3, or the parameter itself."""
    return getattr(parameter, "ds_tensor", parameter)
