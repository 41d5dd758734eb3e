"""The shape of a decoder as its config.json says it: what memory plans are computed from."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rapo_ray.errors import ModelError


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Sizes of a dense decoder with gated MLPs (Llama, Qwen, Mistral and their kin)."""

    layers: int
    hidden: int
    intermediate: int
    query_width: int  # heads x head size
    key_width: int  # key-value heads x head size
    vocabulary: int
    tied: bool  # the head shares the embedding's weight
    normed_heads: bool = False  # queries and keys are normalised per head, as in Qwen3
    windowed: bool = False  # layers with a sliding window

    @property
    def layer_parameters(self) -> int:
        """Parameters of one layer."""
        attention = 2 * self.hidden * (self.query_width + self.key_width)
        return attention + 3 * self.hidden * self.intermediate + 2 * self.hidden

    @property
    def parameters(self) -> int:
        """Parameters of the whole model."""
        embeddings = self.vocabulary * self.hidden * (1 if self.tied else 2)
        return self.layers * self.layer_parameters + embeddings + self.hidden

    @property
    def key_value_bytes(self) -> int:
        """Bytes of the KV cache a token, in 16-bit numbers."""
        return 2 * self.layers * self.key_width * 2

    @property
    def activation_bytes(self) -> int:
        """Bytes a token that a layer keeps for its gradient in 16-bit arithmetic, without checkpointing.

        Counted tensor by tensor: norms keep their input in float32 and their output, linear layers their input, the MLP
        four tensors of its width, attention queries, keys, values and output. What torch keeps of a Llama and a Qwen3
        is within 5 % below (tests/cluster/test_memory_estimates.py).
        """
        norms = 12 * self.hidden
        inputs = 4 * self.hidden + 2 * self.query_width
        attention = 4 * (self.query_width + self.key_width)
        heads = 6 * (self.query_width + self.key_width) if self.normed_heads else 0
        return norms + inputs + 8 * self.intermediate + attention + heads


# As their publishers' config.json has them: a plan of a shipped recipe needs no hub.
KNOWN: dict[str, ModelShape] = {
    "Qwen/Qwen3-1.7B": ModelShape(28, 2048, 6144, 2048, 1024, 151936, tied=True, normed_heads=True),
    "Qwen/Qwen3-8B": ModelShape(36, 4096, 12288, 4096, 1024, 151936, tied=False, normed_heads=True),
    "Qwen/Qwen3-32B": ModelShape(64, 5120, 25600, 8192, 1024, 151936, tied=False, normed_heads=True),
    "meta-llama/Llama-3.3-70B-Instruct": ModelShape(80, 8192, 28672, 8192, 1024, 128256, tied=False),
}


def shape_of_model(spec: str) -> ModelShape | None:
    """The shape of a local or well-known model without fetching anything; None where it is not known here."""
    folder = Path(spec).expanduser()
    return read_shape(folder) if folder.is_dir() else KNOWN.get(spec)


def read_shape(folder: Path) -> ModelShape:
    """The shape of the model in a folder; raises ModelError where its config.json does not say it."""
    path = folder / "config.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return shape_of(content)
    except FileNotFoundError:
        raise ModelError(f"{folder} has no config.json, which tells the model's shape") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path}: the model's shape cannot be read ({type(error).__name__}: {error})") from error


def shape_of(config: dict[str, Any]) -> ModelShape:
    """The shape that a config.json's content describes; raises KeyError for a missing size, ValueError for experts."""
    text = config.get("text_config") or config  # of models that read images too
    if experts := {"num_experts", "num_local_experts", "n_routed_experts"} & text.keys():
        raise ValueError(f"{min(experts)}: mixtures of experts are not counted yet")
    hidden, heads = int(text["hidden_size"]), int(text["num_attention_heads"])
    head_size = int(text.get("head_dim") or hidden // heads)
    return ModelShape(
        layers=int(text["num_hidden_layers"]),
        hidden=hidden,
        intermediate=int(text["intermediate_size"]),
        query_width=heads * head_size,
        key_width=int(text.get("num_key_value_heads") or heads) * head_size,
        vocabulary=int(text["vocab_size"]),
        tied=bool(text.get("tie_word_embeddings", config.get("tie_word_embeddings", False))),
        normed_heads=str(text.get("model_type", "")).startswith("qwen3"),
        windowed=bool(text.get("sliding_window") and text.get("use_sliding_window", True)),
    )
