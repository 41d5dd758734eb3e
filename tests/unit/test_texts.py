"""Texts of finished token ids: equal to those of a detokenizer that goes token by token."""

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from tokenizers.decoders import DecodeStream

from rapo_ray.engines.vllm_engine import CUT, text_of
from tests.tiny import tiny_tokenizer

pytestmark = pytest.mark.unit


class Adapter:
    """Part of transformers' tokenizers over one of tokenizers."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer

    def decode(self, ids: list[int], skip_special_tokens: bool, clean_up_tokenization_spaces: bool) -> str:
        """Text of token ids."""
        assert not clean_up_tokenization_spaces
        text: str = self.tokenizer.decode(ids, skip_special_tokens=skip_special_tokens)
        return text


def special(tokenizer: Tokenizer) -> set[int]:
    """Ids of the special tokens."""
    return {number for number, token in tokenizer.get_added_tokens_decoder().items() if token.special}


def streamed(prompt: list[int], tokens: list[int], tokenizer: Tokenizer) -> str:
    """The text by vLLM's way: a stream primed with the prompt."""
    stream = DecodeStream(ids=prompt, skip_special_tokens=True)
    return "".join(stream.step(tokenizer, token) or "" for token in tokens)


def byte_tokens(tokenizer: Tokenizer, data: bytes) -> list[int]:
    """One token for each byte, whatever characters they make."""
    return [tokenizer.token_to_id(letter) for byte in data for letter in [_letters()[byte]]]


def _letters() -> dict[int, str]:
    """The letter by which byte-level tokenizers write each byte (GPT-2's table)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {byte: chr(byte) for byte in plain} | {byte: chr(256 + number) for number, byte in enumerate(others)}


TEXTS = [
    "Ok.",
    " leading",
    "\u30d1\u30f3 \U0001f35e is bread\u2026",
    "a\ufffdb \ufffd",
    "<think>\n\u00e9</think>\n\nNo.",
]


@pytest.mark.parametrize("text", TEXTS)
def test_every_cut_of_a_text_reads_as_it_does_token_by_token(text: str) -> None:
    tokenizer = tiny_tokenizer()
    prompt = tokenizer.encode("<|im_start|>assistant\n").ids
    tokens = [*tokenizer.encode(text).ids, 2, *byte_tokens(tokenizer, text.encode())]
    for cut in range(len(tokens) + 1):
        got = text_of(prompt, tokens[:cut], Adapter(tokenizer), special(tokenizer))
        assert got == streamed(prompt, tokens[:cut], tokenizer), cut
    assert text in text_of(prompt, tokens, Adapter(tokenizer), special(tokenizer)) or text.endswith(CUT)


def test_bytes_that_are_no_character_are_shown_within_a_text_and_not_at_its_end() -> None:
    tokenizer = tiny_tokenizer()
    tokens = byte_tokens(tokenizer, b"a\xf0\x9fb" + b"\x80\xff" * 300)
    assert (
        text_of([5], tokens, Adapter(tokenizer), special(tokenizer)) == streamed([5], tokens, tokenizer) == f"a{CUT}b"
    )


def test_a_tokenizer_that_drops_a_texts_first_space_does_not_drop_it_behind_a_prompt() -> None:
    vocabulary = {"<unk>": 0, "\u2581Say": 1, "\u2581yes": 2, "!": 3}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    assert tokenizer.decode([2, 3]) == "yes!"
    assert text_of([1], [2, 3], Adapter(tokenizer), special(tokenizer)) == streamed([1], [2, 3], tokenizer) == " yes!"


def test_a_special_token_that_is_not_hidden_is_shown() -> None:
    tokenizer = tiny_tokenizer()
    assert text_of([1], [*tokenizer.encode("Ok").ids, 1, 2], Adapter(tokenizer), {2}) == "Ok<|im_start|>"
