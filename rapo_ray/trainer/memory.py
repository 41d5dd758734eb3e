"""GPU memory of a policy rank and of a reference, estimated from the model's shape (pure).

All in bytes. Weights, gradients, optimizer states and saved activations are counted; contexts and buffers are rough
constants. Unverified on a GPU.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rapo_ray.engines.memory import CONTEXT, IPC_BUFFER_BYTES
from rapo_ray.models.shape import ModelShape
from rapo_ray.trainer.batch import LOGIT_ROWS

if TYPE_CHECKING:  # the GPU check runs where pydantic may be missing
    from rapo_ray.config.learning import PolicyConfig

LIVE_PARAMETERS = 1e9  # whole parameters that ZeRO-3 keeps gathered at once, by DeepSpeed's default
BUCKET = 50_000_000  # numbers that one call reduces or gathers; DeepSpeed's default is ten times that
ADAPTER_SHARE = 0.02  # of a model's parameters, above what adapters of rank 64 on every linear layer have


@dataclass(frozen=True, slots=True)
class TrainerMemory:
    """A process's memory: `static` as long as it lives, `working` only during its pass."""

    static: dict[str, float]
    working: dict[str, float]

    @property
    def idle(self) -> float:
        """Bytes between two passes."""
        return sum(self.static.values())

    @property
    def peak(self) -> float:
        """Bytes during a pass."""
        return self.idle + sum(self.working.values())


def policy_memory(shape: ModelShape, config: "PolicyConfig", longest_row: int) -> TrainerMemory:
    """Memory of one rank whose longest row has `longest_row` tokens."""
    stage, ranks = config.zero_stage, config.ranks
    width = 2 if config.dtype == "bfloat16" else 4
    trained = shape.parameters * (ADAPTER_SHARE if config.lora_rank else 1.0)
    masters = 12 * trained / (ranks if stage >= 1 else 1)  # float32 weights and Adam's two moments
    gradients = 0.0 if config.offload else (4 if stage else width) * trained / (ranks if stage >= 2 else 1)
    gathered = min(LIVE_PARAMETERS, shape.parameters) * width if stage == 3 else 0.0
    tokens = max(config.micro_batch_tokens, longest_row)
    return TrainerMemory(
        {
            "weights": width * shape.parameters / (ranks if stage == 3 else 1),
            "optimizer": 0.0 if config.offload else masters,
            "context": CONTEXT,
        },
        {
            "gradients": gradients + gathered + 2 * BUCKET * width,
            "activations": activations(shape, tokens, config.gradient_checkpointing),
            "logits": logits(shape) + (0.0 if config.lora_rank else head_gradients(shape, width)),
            **masks(shape, tokens, longest_row, width, config.row_tokens > 0 or config.learns_from_pairs),
        },
    )


def sync_buffers(shape: ModelShape) -> float:
    """Bytes on a card while its rank, whose states lie in host memory, sends weights: a gathered parameter and its
    copy, the rank's bucket, what the engine copies out of that, and the layer that it builds.
    """
    largest = 2.0 * shape.vocabulary * shape.hidden
    return 3 * largest + 2 * max(IPC_BUFFER_BYTES, largest)


def warmup_memory(shape: ModelShape, config: "PolicyConfig", longest_row: int) -> TrainerMemory:
    """Memory of one rank of the supervised warm-up, which trains all weights."""
    return policy_memory(shape, config.model_copy(update={"lora_rank": 0}), longest_row)


def reference_memory(shape: ModelShape, tokens: int, longest_row: int, row_tokens: int) -> TrainerMemory:
    """Memory of a reference whose forward passes have so many tokens; one layer's activations are alive at a time."""
    return TrainerMemory(
        {"weights": 2.0 * shape.parameters, "context": CONTEXT},
        {
            "activations": float(shape.activation_bytes * tokens),
            "logits": logits(shape),
            **masks(shape, tokens, longest_row, 2, row_tokens > 0),
        },
    )


def masks(shape: ModelShape, tokens: int, longest_row: int, width: int, packed: bool) -> dict[str, float]:
    """Bytes of the dense masks of packed rows, boolean and added to scores of `width` bytes, if any are made.

    None are where varlen attention or FlexAttention fits (`packing.choose`); layers with a window have a second.
    """
    if not packed or (width == 2 and not shape.windowed):
        return {}
    return {"masks": float((2 if shape.windowed else 1) * (1 + width) * tokens * longest_row)}


def activations(shape: ModelShape, tokens: int, checkpointed: bool) -> float:
    """Bytes kept for the backward pass of so many tokens: with checkpointing the layers' inputs and one layer."""
    if not checkpointed:
        return float(shape.layers * shape.activation_bytes * tokens)
    return float((2 * shape.layers * shape.hidden + shape.activation_bytes) * tokens)


def head_gradients(shape: ModelShape, width: int) -> float:
    """Bytes of the head's gradient, of all chunks so far and of the next one."""
    return 2.0 * width * shape.vocabulary * shape.hidden


def logits(shape: ModelShape) -> float:
    """Bytes of one chunk of the head: 16-bit logits, float32 log-probs, and the gradients of both."""
    return 12.0 * LOGIT_ROWS * shape.vocabulary
