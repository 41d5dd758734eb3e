"""A tiny random Llama and its tokenizer: real files for real engines, made in a second without a download."""

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")  # ids 0, 1, 2
VOCAB_SIZE = 512
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXTS = (
    "<think>\nThe user asks how to bake bread. Nothing about it is risky, so a short answer will do.\n</think>\n\nOk.",
    "<think>\nThis request could hurt people. I should decline and offer something safe instead.\n</think>\n\nNo.",
    "system user assistant: What is the capital of France? The capital of France is Paris. 0 1 2 3 4 5 6 7 8 9",
    "I'm sorry, but I can't help with that. How do I kill a Python process? Find its number, then end it.",
    "Let me weigh the risk: is the request harmful, hidden, or harmless? Step by step, sentence by sentence.",
    "Bread, fire, water, python, number, process, harm, safety, privacy, question: each is a word that prompts use.",
    '{"score": 1, "level": 2, "refusal": true, "reason": "The trace names the risk and the answer declines."}',
)


def tiny_tokenizer(special_tokens: Sequence[str] = ()) -> Tokenizer:
    """Train a byte-level BPE tokenizer with 512 tokens, further special ones among them; deterministic."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[*SPECIAL_TOKENS, *special_tokens],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    assert tokenizer.get_vocab_size() == VOCAB_SIZE, "too little text: the model could sample ids without a token"
    return tokenizer


def tiny_model(
    path: Path, seed: int, max_positions: int = 1024, tied: bool = True, template: str = CHAT_TEMPLATE,
    special_tokens: Sequence[str] = (),
) -> Path:  # fmt: skip
    """Write a random 2-layer Llama (float32, vocabulary 512) and its tokenizer into a folder, and return the folder."""
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tiny_tokenizer(special_tokens),
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token="<|endoftext|>",
        chat_template=template,
        model_max_length=max_positions,
        clean_up_tokenization_spaces=False,
    )
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    config = LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,  # the smallest that vLLM's CPU attention supports
        max_position_embeddings=max_positions,
        tie_word_embeddings=tied,
        dtype="float32",
        **ids,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(**ids)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path
