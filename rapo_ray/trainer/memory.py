"""Memory that a policy rank and a reference take of a GPU, estimated from the model's shape (pure).

Bytes everywhere. The largest parts are what they are by construction (weights, gradients, optimizer states, saved
layer inputs); contexts and buffers are measured constants of other stacks, and unverified on a GPU here.
"""

from rapo_ray.config.learning import PolicyConfig
from rapo_ray.models.shape import ModelShape
from rapo_ray.trainer.head import LOGIT_ROWS

CONTEXT = 1 << 30  # a process's CUDA context, libraries and nccl buffers
LIVE_PARAMETERS = 1_000_000_000  # whole parameters that ZeRO-3 keeps gathered at once, by DeepSpeed's default
ADAPTER_SHARE = 0.02  # of a model's parameters, an upper bound for adapters of rank 64 or less

Parts = dict[str, float]


def policy_memory(shape: ModelShape, config: PolicyConfig, row_tokens: int) -> Parts:
    """Bytes by part of one rank whose longest row has `row_tokens` tokens."""
    sharded, trained = _sharded(config), shape.parameters * (ADAPTER_SHARE if config.lora_rank else 1.0)
    width = 2 if config.dtype == "bfloat16" else 4
    weights = shape.parameters * width / sharded["weights"]
    if config.zero_stage == 3:
        weights += min(LIVE_PARAMETERS, shape.parameters) * width
    optimizer = 0.0 if config.offload else 12 * trained / sharded["optimizer"]
    return {
        "weights": weights,
        "gradients": 4 * trained / sharded["gradients"],  # accumulated in float32
        "optimizer": optimizer,
        "activations": activations(shape, max(config.micro_batch_tokens, row_tokens), config.gradient_checkpointing),
        "logits": logits(shape),
        "context": CONTEXT,
    }


def reference_memory(shape: ModelShape, tokens: int) -> Parts:
    """Bytes by part of a reference whose forward passes have so many tokens."""
    return {
        "weights": 2.0 * shape.parameters,
        "activations": float(shape.activation_bytes * tokens),
        "logits": logits(shape),
        "context": CONTEXT,
    }


def activations(shape: ModelShape, tokens: int, checkpointed: bool) -> float:
    """Bytes kept for the backward pass of so many tokens; with checkpointing the layers' inputs and one layer."""
    if not checkpointed:
        return float(shape.layers * shape.activation_bytes * tokens)
    return float((2 * shape.layers * shape.hidden + shape.activation_bytes) * tokens)


def logits(shape: ModelShape) -> float:
    """Bytes of one chunk of the head's logits: 16-bit, float32 log-probs, and their gradient in both."""
    return 12.0 * LOGIT_ROWS * shape.vocabulary


def _sharded(config: PolicyConfig) -> dict[str, int]:
    stage = config.zero_stage
    return {
        "optimizer": config.ranks if stage >= 1 else 1,
        "gradients": config.ranks if stage >= 2 else 1,
        "weights": config.ranks if stage >= 3 else 1,
    }
