"""Additions to vLLM's worker: the shared-memory backend, fast CPU sampling, and checksums of the loaded weights."""

import hashlib
from collections.abc import Iterator
from typing import Any, cast

import torch

from rapo_ray.engines import cpu_sampling, shared_memory

shared_memory.register()
cpu_sampling.install()

# vLLM fuses these projections; the trainer has them separately
FUSED = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}


class RapoWorkerExtension:
    """A mixin that `worker_extension_cls` adds to vLLM's worker class."""

    model_runner: Any
    weight_transfer_engine: Any

    def close_weight_transfer(self) -> None:
        """Free the communicator of an earlier transfer group: vLLM drops its reference and leaves NCCL's memory."""
        group = getattr(self.weight_transfer_engine, "model_update_group", None)  # other transfers have none
        if group is not None:
            group.destroy()

    def weight_checksums(self, dtype: str) -> dict[str, str]:
        """SHA-256 of every weight of the running model in `dtype`, with fused projections split."""
        model = self.model_runner.get_model()
        wire = getattr(torch, dtype)
        return {name: digest(tensor.to(wire)) for name, tensor in _weights(model)}


def digest(tensor: torch.Tensor) -> str:
    """SHA-256 of a tensor's bytes."""
    return hashlib.sha256(tensor.contiguous().cpu().view(torch.uint8).numpy().tobytes()).hexdigest()


def _weights(model: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    for path, module in model.named_modules():
        prefix, _, last = path.rpartition(".")
        for kind, parameter in module.named_parameters(recurse=False):
            packed = kind == "weight" and hasattr(module, "cpu_linear")
            tensor = _in_kernel(module, parameter) if packed else parameter.data
            if last in FUSED:
                parts = zip(FUSED[last], tensor.split(cast(Any, module).output_sizes), strict=True)
                yield from ((f"{prefix}.{part}.{kind}", piece) for part, piece in parts)
            else:
                yield f"{path}.{kind}", tensor


def _in_kernel(module: Any, parameter: torch.nn.Parameter) -> torch.Tensor:
    """Read a weight that a CPU kernel only holds repacked: the kernel's output on the identity, which is exact."""
    rows = module.embedding_dim if hasattr(module, "embedding_dim") else module.input_size
    identity = torch.eye(rows, dtype=parameter.dtype)
    weight: torch.Tensor = module.quant_method.apply(module, identity, None).T
    return weight[: module.org_vocab_size] if hasattr(module, "org_vocab_size") else weight
