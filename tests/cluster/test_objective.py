"""Our objective against TRL's GRPO loss and a plain NumPy version, on the same batch."""

from collections import defaultdict
from typing import Any

import numpy as np
import pytest
import torch

from rapo_ray.config.learning import PolicyConfig
from rapo_ray.trainer.objective import Objective, TokenInputs

pytestmark = pytest.mark.cluster  # needs torch, openrlhf and trl

ROWS, WIDTH = 6, 11


def batch(seed: int) -> TokenInputs:
    """Make inputs with random log-probs, ragged masks and advantages of both signs."""
    generator = torch.Generator().manual_seed(seed)
    logprobs = -torch.rand(ROWS, WIDTH, generator=generator) * 3
    lengths = torch.tensor([11, 7, 9, 1, 4, 10])
    mask = (torch.arange(WIDTH)[None] < lengths[:, None]).float()

    def near(scale: float) -> torch.Tensor:
        return logprobs.detach() + scale * torch.randn(ROWS, WIDTH, generator=generator)

    return TokenInputs(
        logprobs=logprobs.requires_grad_(),
        old_logprobs=near(0.3),
        rollout_logprobs=near(0.3),
        reference_logprobs=near(0.5),
        advantages=torch.randn(ROWS, 1, generator=generator),
        mask=mask,
    )


def ours(config: PolicyConfig, inputs: TokenInputs) -> tuple[float, np.ndarray]:
    """Our loss and its gradient with respect to the log-probs."""
    inputs.logprobs.grad = None
    terms = Objective(config, num_ranks=1)(inputs, ROWS, int(inputs.mask.sum()))
    terms.loss.backward()
    assert inputs.logprobs.grad is not None
    return float(terms.loss.detach()), (inputs.logprobs.grad * inputs.mask).numpy().copy()


def trl(inputs: TokenInputs, loss_type: str, beta: float) -> tuple[float, np.ndarray]:
    """TRL's own `_compute_loss` on the same log-probs."""
    from types import SimpleNamespace

    from trl import GRPOTrainer

    trainer: Any = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *a, **k: (inputs.logprobs, torch.zeros_like(inputs.logprobs), None),
        aux_loss_enabled=False,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        importance_sampling_level="token",
        beta=beta,
        args=SimpleNamespace(use_bias_correction_kl=False, delta=None, steps_per_generation=1),
        loss_type=loss_type,
        epsilon_low=0.2,
        epsilon_high=0.2,
        use_vllm=False,
        model=SimpleNamespace(training=True),
        current_gradient_accumulation_steps=1,
        accelerator=SimpleNamespace(
            num_processes=1, gather=lambda tensor: tensor, reduce=lambda tensor, reduction: tensor
        ),
        _entropy_bonus_enabled=False,
        _metrics={"train": defaultdict(list)},
    )
    row = {
        "prompt_ids": torch.zeros(ROWS, 2, dtype=torch.long),
        "prompt_mask": torch.ones(ROWS, 2, dtype=torch.long),
        "completion_ids": torch.zeros(ROWS, WIDTH, dtype=torch.long),
        "completion_mask": inputs.mask.long(),
        "advantages": inputs.advantages.squeeze(1),
        "old_per_token_logps": inputs.old_logprobs,
        "ref_per_token_logps": inputs.reference_logprobs,
        "num_items_in_batch": inputs.mask.sum(),
    }
    inputs.logprobs.grad = None
    loss = GRPOTrainer._compute_loss(trainer, None, row)
    loss.backward()
    assert inputs.logprobs.grad is not None
    return float(loss.detach()), (inputs.logprobs.grad * inputs.mask).numpy().copy()


def plain(inputs: TokenInputs, by_token: bool, beta: float) -> float:
    """Clipped objective with the k3 penalty in a few lines of NumPy."""
    logp, old, ref, adv, mask = (
        tensor.detach().double().numpy()
        for tensor in (inputs.logprobs, inputs.old_logprobs, inputs.reference_logprobs, inputs.advantages, inputs.mask)
        if tensor is not None
    )
    ratio = np.exp(logp - old)
    per_token = -np.minimum(ratio * adv, np.clip(ratio, 0.8, 1.2) * adv)
    per_token += beta * (np.exp(ref - logp) - (ref - logp) - 1)
    if by_token:
        return float((per_token * mask).sum() / mask.sum())
    return float(((per_token * mask).sum(1) / mask.sum(1)).mean())


@pytest.mark.parametrize(("loss_mean", "loss_type"), [("sequence", "grpo"), ("token", "dapo")])
@pytest.mark.parametrize("beta", [0.0, 0.04])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_agrees_with_trl_and_numpy(loss_mean: Any, loss_type: str, beta: float, seed: int) -> None:
    inputs = batch(seed)
    config = PolicyConfig(loss_mean=loss_mean, kl_coef=beta, importance_correction="off")
    loss, gradient = ours(config, inputs)
    their_loss, their_gradient = trl(inputs, loss_type, beta)
    assert loss == pytest.approx(their_loss, abs=1e-5)
    np.testing.assert_allclose(gradient, their_gradient, atol=1e-5)
    assert loss == pytest.approx(plain(inputs, loss_mean == "token", beta), abs=1e-5)
    assert np.abs(gradient).max() > 1e-3


def test_importance_weights_are_clipped_per_token_and_sequences_dropped() -> None:
    inputs = batch(3)
    ratio = (inputs.old_logprobs - inputs.rollout_logprobs).exp()
    off, _ = ours(PolicyConfig(loss_mean="token", kl_coef=0, importance_correction="off"), inputs)
    token, _ = ours(PolicyConfig(loss_mean="token", kl_coef=0, importance_bounds=(0.9, 1.1)), inputs)
    policy_ratio = (inputs.logprobs - inputs.old_logprobs).exp()
    per_token = -torch.min(policy_ratio * inputs.advantages, policy_ratio.clamp(0.8, 1.2) * inputs.advantages)
    expected = (per_token * ratio.clamp(0.9, 1.1) * inputs.mask).sum() / inputs.mask.sum()
    assert token == pytest.approx(float(expected), abs=1e-6)
    assert token != pytest.approx(off, abs=1e-4)
    dropped, gradient = ours(
        PolicyConfig(kl_coef=0, importance_correction="sequence", importance_bounds=(1e3, 1e4)), inputs
    )
    assert dropped == 0
    assert np.abs(gradient).max() == 0
