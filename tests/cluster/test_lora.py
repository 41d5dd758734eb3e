"""LoRA: only adapters are trained, and the published model is the merged one, under the base model's names."""

from pathlib import Path

import pytest
import torch

from rapo_ray.trainer.lora import add_lora, merged, named_weights
from rapo_ray.trainer.model import load_language_model, save_language_model
from tests.tiny import tiny_model

pytestmark = pytest.mark.cluster

TOKENS = torch.arange(3, 30).unsqueeze(0)


def test_the_published_model_computes_what_the_adapted_one_does(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "model", seed=0)
    plain, adapted = (load_language_model(folder, "float32") for _ in range(2))
    torch.manual_seed(1)
    add_lora(adapted, rank=4, alpha=8)
    trained = {name: parameter for name, parameter in adapted.named_parameters() if parameter.requires_grad}
    assert trained
    assert all(".lora_" in name for name in trained)
    with torch.no_grad():
        for parameter in trained.values():
            parameter.normal_(std=0.1)
        assert not torch.allclose(adapted(TOKENS).logits, plain(TOKENS).logits, atol=1e-2)

        state = {name: merged(parameter, layer).float() for name, parameter, layer in named_weights(adapted)}
        assert list(state) == [name for name, _ in plain.named_parameters()]
        save_language_model(adapted, state, tmp_path / "out", "float32")
        published = load_language_model(tmp_path / "out", "float32")
        torch.testing.assert_close(published(TOKENS).logits, adapted(TOKENS).logits, atol=1e-5, rtol=1e-5)


def test_adapters_learn_behind_checkpointed_layers(tmp_path: Path) -> None:
    model = load_language_model(tiny_model(tmp_path / "model", seed=0), "float32", gradient_checkpointing=True)
    add_lora(model, rank=4, alpha=8)
    model.train()
    model(TOKENS).logits.sum().backward()
    gradients = [parameter.grad for name, parameter in model.named_parameters() if ".lora_B" in name]
    assert gradients
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients)
