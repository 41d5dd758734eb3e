"""GPU memory of a vLLM engine, estimated from the model's shape, and the sequences that its KV cache holds (pure)."""

from dataclasses import dataclass

from rapo_ray.models.shape import ModelShape

CONTEXT = 1.5 * 2**30  # CUDA context, libraries, communication buffers; unverified on a GPU
GRAPHS = 2.0**30  # of captured CUDA graphs
# A card holds this twice during a sync, the rank's buffer and what its engine copies out of it, beside both models;
# 16 GB of weights then take 32 calls, which is nothing beside the second that the copies take.
IPC_BUFFER_BYTES = 512 << 20
STEP_TOKENS = 8192  # tokens of one step, whose activations vLLM's profiling run sets aside


@dataclass(frozen=True, slots=True)
class EngineMemory:
    """One worker's memory."""

    parts: dict[str, float]
    kv_cache: float  # bytes left for the cache; not positive where the rest does not fit
    kv_bytes: float  # of one token

    @property
    def total(self) -> float:
        """Bytes of the worker while it generates."""
        return sum(self.parts.values()) + max(0.0, self.kv_cache)

    @property
    def asleep(self) -> float:
        """Bytes that a sleeping worker keeps."""
        return self.parts["context"] + self.parts["graphs"]

    def sequences(self, tokens: int) -> int:
        """Sequences of so many tokens that the cache holds at once."""
        return max(0, int(self.kv_cache / (self.kv_bytes * tokens)))


def expected_tokens(max_prompt_tokens: int, max_new_tokens: int) -> int:
    """Tokens that a sequence is expected to have: half of its limits. More at once would be preempted too often."""
    return max(1, (max_prompt_tokens + max_new_tokens) // 2)


def engine_memory(
    shape: ModelShape, card: float, share: float, tensor_parallel: int, max_num_seqs: int, eager: bool
) -> EngineMemory:
    """Memory of one worker of an engine that may take `share` of a card of `card` bytes."""
    activations = STEP_TOKENS * 2.0 * (4 * shape.hidden + 3 * shape.intermediate / tensor_parallel)
    parts = {
        "weights": 2.0 * shape.parameters / tensor_parallel,
        "activations": activations + 6.0 * max_num_seqs * shape.vocabulary,  # and the sampler's float32 logits
        "graphs": 0.0 if eager else GRAPHS,
        "context": CONTEXT,
    }
    return EngineMemory(parts, share * card - sum(parts.values()), shape.key_value_bytes / tensor_parallel)
