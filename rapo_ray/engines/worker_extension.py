"""What we add to vLLM's worker: the shared-memory backend, and reading the weights back."""

import hashlib
from collections.abc import Iterator
from typing import Any

import torch

from rapo_ray.engines import shared_memory

shared_memory.register()

# vLLM fuses these projections; the trainer knows their parts
FUSED = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}


class RapoWorkerExtension:
    """Mixed into vLLM's worker class by `worker_extension_cls`."""

    model_runner: Any

    def weight_checksums(self, dtype: str) -> dict[str, str]:
        """SHA-256 of every weight of the running model in `dtype`, fused projections taken apart."""
        model = self.model_runner.get_model()
        wire = getattr(torch, dtype)
        return {name: digest(tensor.to(wire)) for name, tensor in _weights(model)}


def digest(tensor: torch.Tensor) -> str:
    """SHA-256 of a tensor's bytes."""
    return hashlib.sha256(tensor.contiguous().cpu().view(torch.uint8).numpy().tobytes()).hexdigest()


def _weights(model: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    tied = getattr(model.config, "tie_word_embeddings", False)
    for name, parameter in model.named_parameters(remove_duplicate=True):
        if tied and name.startswith("lm_head."):
            continue
        path, _, kind = name.rpartition(".")
        module = model.get_submodule(path)
        tensor = parameter.data
        if tensor.numel() == 0:
            tensor = _unpack(module)
        prefix, _, last = path.rpartition(".")
        if last in FUSED:
            for part, piece in zip(FUSED[last], tensor.split(module.output_sizes), strict=True):
                yield f"{prefix}.{part}.{kind}", piece
        else:
            yield name, tensor


def _unpack(module: Any) -> torch.Tensor:
    """The weight of a linear layer whose CPU kernel holds it repacked: what it makes of the identity, exactly."""
    identity = torch.eye(module.input_size, dtype=module.params_dtype)
    weight: torch.Tensor = module.quant_method.apply(module, identity, None).T
    return weight
