"""Random models of published shapes on disk, and random sequences for them."""

import os
import random
from pathlib import Path

from rapo_ray.models.shape import KNOWN, ModelShape
from rapo_ray.types import Sequence

SAMPLES = 4  # completions of one prompt, a group
PROMPT_SHARE = 0.25  # of a sequence's tokens
SHAPES = {
    "tiny": ModelShape(2, 64, 128, 128, 64, 512, tied=True, normed_heads=True),
    "1.7b": KNOWN["Qwen/Qwen3-1.7B"],
    "8b": KNOWN["Qwen/Qwen3-8B"],
}


def random_model(name: str, models: Path, device: str) -> Path:
    """The folder of a random Qwen3 of a shape in bfloat16, with a tokenizer, written where it is missing."""
    folder = models / name
    if not folder.exists():
        unfinished = models / f"{name}.tmp"
        _write_model(SHAPES[name], unfinished, "cuda" if device == "gpu" else "cpu")
        _write_tokenizer(SHAPES[name].vocabulary, unfinished)
        os.replace(unfinished, folder)
    return folder


def _write_model(shape: ModelShape, folder: Path, device: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM, Qwen3Config

    size = 32 if shape.key_width < 128 else 128  # of a head
    config = Qwen3Config(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.query_width // size,
        num_key_value_heads=shape.key_width // size,
        head_dim=size,
        tie_word_embeddings=shape.tied,
    )
    torch.manual_seed(0)
    with torch.device(device):  # a GPU fills 8B weights in a second
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)


def _write_tokenizer(vocabulary: int, folder: Path) -> None:
    """A tokenizer with a word for every id and no end of text: each completion has all its tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({f"t{token}": token for token in range(vocabulary)}, unk_token="t0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="t0").save_pretrained(folder)


def random_tokens(length: int, vocabulary: int, seed: int) -> tuple[int, ...]:
    """Random token ids."""
    return tuple(random.Random(seed).choices(range(3, vocabulary), k=length))


def group(tokens: int, vocabulary: int) -> tuple[Sequence, ...]:
    """Completions of one prompt: the last has `tokens` tokens with it, the first a little over half as many."""
    prompt = random_tokens(max(1, int(PROMPT_SHARE * tokens)), vocabulary, seed=tokens)
    rows = []
    for sample in range(SAMPLES):
        length = (tokens - len(prompt)) * (SAMPLES + sample) // (2 * SAMPLES - 1)
        completion = random_tokens(length, vocabulary, seed=tokens + 1 + sample)
        rows.append(Sequence(prompt, completion, (-1.0) ** sample, (-1.0,) * length))
    return tuple(rows)
