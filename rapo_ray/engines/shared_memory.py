"""A shared-memory backend for vLLM's weight transfer API: engines and policy on the same host, no GPU needed.

The trainer writes each bucket to a safetensors file in /dev/shm; every worker maps it and loads it through vLLM's
layerwise reload, which also repacks weights that the CPU kernels hold in their own layout.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from safetensors.torch import safe_open, save_file
from vllm.distributed.weight_transfer.base import (
    ParamMeta,
    TrainerInitInfo,
    TrainerWeightTransferEngine,
    VLLMWeightSyncClient,
    WeightSource,
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory

BACKEND = "shm"
FOLDER = Path("/dev/shm")
BUCKET_BYTES = 256 << 20


@dataclass
class SharedMemoryUpdateInfo(WeightTransferUpdateInfo):
    """Update message for one bucket: the path of its file."""

    path: str


@dataclass
class SharedMemoryInitInfo(WeightTransferInitInfo):
    """Worker-side initialization, which needs no parameters."""


@dataclass
class SharedMemoryTrainerInitInfo(TrainerInitInfo):
    """Trainer-side initialization; rank 0 writes."""

    backend: ClassVar[str] = BACKEND


class SharedMemoryEngine(WeightTransferEngine[SharedMemoryInitInfo, SharedMemoryUpdateInfo]):
    """Worker side: loads buckets into the running model."""

    init_info_cls = SharedMemoryInitInfo
    update_info_cls = SharedMemoryUpdateInfo

    def init_transfer_engine(self, init_info: SharedMemoryInitInfo) -> None:
        """Do nothing: no connection is needed."""

    def start_weight_update(self) -> None:
        """Prepare every layer for reloading."""
        from vllm.model_executor.model_loader.reload import initialize_layerwise_reload

        initialize_layerwise_reload(self.model)

    def update_weights(self, update_info: dict[str, Any]) -> None:
        """Load one bucket; overrides the base class, which would synchronize an accelerator."""
        self.receive_weights(self.parse_update_info(update_info))

    def receive_weights(self, update_info: SharedMemoryUpdateInfo) -> None:
        """Map the bucket's file and load its tensors."""
        with safe_open(update_info.path, framework="pt", device=str(self.device)) as bucket:
            names = bucket.keys()
            load: Any = self.model.load_weights  # every vLLM model has it
            load((name, bucket.get_tensor(name)) for name in names)

    def finish_weight_update(self) -> None:
        """Repack every layer into the kernels' layout."""
        from vllm.model_executor.model_loader.reload import finalize_layerwise_reload

        finalize_layerwise_reload(self.model, self.model_config)
        _repack_tied_head(self.model)

    def shutdown(self) -> None:
        """Do nothing: no resource stays open."""


def _repack_tied_head(model: Any) -> None:
    """Repack an LM head that shares the embedding's weight.

    The reload assigns a tied weight to the embedding only: the head's CPU kernel would keep its stale copy.
    """
    head: Any = getattr(model, "lm_head", None)
    if getattr(model.config, "tie_word_embeddings", False) and hasattr(head, "cpu_linear"):
        head.quant_method.process_weights_after_loading(head)


class SharedMemoryTrainer(TrainerWeightTransferEngine[SharedMemoryTrainerInitInfo]):
    """Trainer side: all ranks iterate over the source, rank 0 writes and notifies the engines."""

    init_info_cls = SharedMemoryTrainerInitInfo

    @classmethod
    def trainer_init(
        cls,
        init_info: SharedMemoryTrainerInitInfo,
        *,
        client: VLLMWeightSyncClient,
        source: WeightSource | None = None,
    ) -> Self:
        """Make the sender (rank 0), or a rank that only takes part in gathering."""
        if init_info.is_sender:  # nothing to negotiate, yet vLLM requires the call
            client.init_weight_transfer_engine({})
        return cls(client=client, source=source, is_sender=init_info.is_sender)

    def send_weights(self) -> None:
        """Send every weight, bucket by bucket."""
        assert self.source is not None
        if not self.is_sender:
            for _ in self.source:
                pass
            return
        self.client.start_weight_update()
        with tempfile.TemporaryDirectory(prefix="rapo-weights-", dir=FOLDER) as folder:
            for number, bucket in enumerate(_buckets(self.source, BUCKET_BYTES)):
                path = Path(folder) / f"{number}.safetensors"
                save_file(bucket, str(path))
                self.client.update_weights(asdict(SharedMemoryUpdateInfo(path=str(path))))
                path.unlink()
        self.client.finish_weight_update()


def _buckets(source: WeightSource, max_bytes: int) -> Iterator[dict[str, torch.Tensor]]:
    bucket: dict[str, torch.Tensor] = {}
    size = 0
    for name, tensor in source:
        tensor = tensor.contiguous().cpu()
        if bucket and size + tensor.nbytes > max_bytes:
            yield bucket
            bucket, size = {}, 0
        bucket[name] = tensor
        size += tensor.nbytes
    if bucket:
        yield bucket


def register() -> None:
    """Register the backend with vLLM's factory in this process; idempotent."""
    if BACKEND not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine(BACKEND, SharedMemoryEngine)


class PolicySource(WeightSource):
    """A policy's parameters as a vLLM weight source."""

    def __init__(self, policy: Any, dtype: str) -> None:
        self._policy = policy
        self._dtype = dtype

    def metadata(self) -> list[ParamMeta]:
        """Name, transfer dtype and full shape of every parameter."""
        wire = getattr(torch, self._dtype)
        return [ParamMeta(name, wire, shape) for name, shape in self._policy.weights_metadata()]

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Iterate over full tensors in metadata order; a collective under ZeRO-3."""
        return iter(self._policy.weights(self._dtype))
