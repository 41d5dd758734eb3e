"""A shared-memory backend for vLLM's weight transfer API: engines and policy on the same host, no GPU needed.

The trainer writes one safetensors file a bucket under /dev/shm; every worker maps it and loads it through vLLM's
layerwise reload, which also repacks weights that the CPU kernels hold in their own layout.
"""

import tempfile
from collections.abc import Collection, Iterator
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
    """One bucket: the file that holds it."""

    path: str


@dataclass
class SharedMemoryInitInfo(WeightTransferInitInfo):
    """Nothing to agree on beforehand."""


@dataclass
class SharedMemoryTrainerInitInfo(TrainerInitInfo):
    """Trainer side; rank 0 writes."""

    backend: ClassVar[str] = BACKEND


class SharedMemoryEngine(WeightTransferEngine[SharedMemoryInitInfo, SharedMemoryUpdateInfo]):
    """Worker side."""

    init_info_cls = SharedMemoryInitInfo
    update_info_cls = SharedMemoryUpdateInfo

    def init_transfer_engine(self, init_info: SharedMemoryInitInfo) -> None:
        """Nothing to open."""

    def start_weight_update(self) -> None:
        """Prepare every layer to be loaded again."""
        from vllm.model_executor.model_loader.reload import initialize_layerwise_reload

        initialize_layerwise_reload(self.model)

    def update_weights(self, update_info: dict[str, Any]) -> None:
        """Load one bucket; the base class would synchronise an accelerator, which a CPU is not."""
        self.receive_weights(self.parse_update_info(update_info))

    def receive_weights(self, update_info: SharedMemoryUpdateInfo) -> None:
        """Map the bucket's file and load its tensors."""
        with safe_open(update_info.path, framework="pt", device=str(self.device)) as bucket:
            names = bucket.keys()
            load: Any = self.model.load_weights  # vLLM gives it to every model
            load((name, bucket.get_tensor(name)) for name in names)

    def finish_weight_update(self) -> None:
        """Put every layer back into the kernels' layout."""
        from vllm.model_executor.model_loader.reload import finalize_layerwise_reload

        finalize_layerwise_reload(self.model, self.model_config)
        _repack_tied_head(self.model)

    def shutdown(self) -> None:
        """Nothing is kept open."""


def _repack_tied_head(model: Any) -> None:
    """Repack a head that shares the embedding's weight.

    The reload sees that weight arrive for the embedding alone: the head's CPU kernel would keep its own old copy.
    """
    head: Any = getattr(model, "lm_head", None)
    if getattr(model.config, "tie_word_embeddings", False) and hasattr(head, "cpu_linear"):
        head.quant_method.process_weights_after_loading(head)


class SharedMemoryTrainer(TrainerWeightTransferEngine[SharedMemoryTrainerInitInfo]):
    """Trainer side: all ranks iterate the source, rank 0 writes and tells the engines."""

    init_info_cls = SharedMemoryTrainerInitInfo

    @classmethod
    def trainer_init(
        cls,
        init_info: SharedMemoryTrainerInitInfo,
        *,
        client: VLLMWeightSyncClient,
        source: WeightSource | None = None,
    ) -> Self:
        """Make a sender (rank 0) or a rank that only takes part in gathering."""
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
    """Make the backend known to vLLM's factory in this process; doing it twice is fine."""
    if BACKEND not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine(BACKEND, SharedMemoryEngine)


class PolicySource(WeightSource):
    """A policy's parameters as vLLM's weight source."""

    def __init__(self, policy: Any, dtype: str) -> None:
        self._policy = policy
        self._dtype = dtype

    def metadata(self) -> list[ParamMeta]:
        """Name, wire dtype and whole shape of every parameter."""
        wire = getattr(torch, self._dtype)
        return [ParamMeta(name, wire, shape) for name, shape in self._policy.weights_metadata()]

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Whole tensors in metadata order; a collective under ZeRO-3."""
        return iter(self._policy.weights(self._dtype))

    def held_names(self) -> Collection[str] | None:
        """Every rank can produce every parameter."""
        return None
