"""DPO and IPO on pairs against TRL's own loss, on the same log-probs."""

from collections import defaultdict
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest
import torch

from rapo_ray.config.learning import PolicyConfig
from rapo_ray.trainer.objective import TokenInputs
from rapo_ray.trainer.pair_objective import PairObjective

pytestmark = pytest.mark.cluster  # needs torch, openrlhf and trl

PAIRS, WIDTH, BETA = 3, 9, 0.3
LENGTHS = torch.tensor([9, 4, 1, 7, 5, 5])  # chosen and rejected alternate


def batch(seed: int) -> TokenInputs:
    """Make log-probs that alternate between chosen and rejected, zero outside the ragged masks as from the model."""
    generator = torch.Generator().manual_seed(seed)
    mask = (torch.arange(WIDTH)[None] < LENGTHS[:, None]).float()
    policy = -torch.rand(2 * PAIRS, WIDTH, generator=generator) * 3 * mask
    reference = (policy + 0.4 * torch.randn(2 * PAIRS, WIDTH, generator=generator)) * mask
    zeros = torch.zeros_like(policy)
    return TokenInputs(policy.requires_grad_(), zeros, zeros, reference, zeros[:, :1], mask)


def trl(inputs: TokenInputs, loss_type: str) -> tuple[float, np.ndarray]:
    """TRL's `DPOTrainer._compute_loss`, which expects all chosen before all rejected and a first-token column."""
    from trl import DPOTrainer

    order = torch.tensor([0, 2, 4, 1, 3, 5])

    shown = inputs.logprobs[order]
    outputs = SimpleNamespace(
        log_probs=shown, entropy=shown, mean_logits=shown, is_top1=torch.zeros_like(shown, dtype=torch.bool)
    )

    def same(value: Any) -> Any:
        return value

    trainer: Any = SimpleNamespace(
        model=SimpleNamespace(training=True),
        accelerator=SimpleNamespace(device="cpu", gather=same, gather_for_metrics=same),
        aux_loss_enabled=False, ld_alpha=None, precompute_ref_logps=True, f_divergence_type="reverse_kl",
        loss_types=[loss_type], loss_weights=[1.0], beta=BETA, use_weighting=False,
        _metrics={"train": defaultdict(list)}, _total_train_tokens=0, _tp_size=1,
    )  # fmt: skip
    inputs.logprobs.grad = None
    padded = torch.cat([torch.zeros(2 * PAIRS, 1), inputs.mask], dim=1)[order]
    rows = {name: padded.long() for name in ("input_ids", "attention_mask", "completion_mask")}
    assert inputs.reference_logprobs is not None
    reference = inputs.reference_logprobs.sum(1)
    rows |= {"ref_chosen_logps": reference[0::2], "ref_rejected_logps": reference[1::2]}

    loss = DPOTrainer._compute_loss(trainer, lambda **kwargs: outputs, rows, return_outputs=False)
    loss.backward()
    assert inputs.logprobs.grad is not None
    return float(loss.detach()), (inputs.logprobs.grad * inputs.mask).numpy().copy()  # theirs is zero there by labels


@pytest.mark.parametrize(("objective", "loss_type"), [("dpo", "sigmoid"), ("ipo", "ipo")])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_agrees_with_trl(objective: Literal["dpo", "ipo"], loss_type: str, seed: int) -> None:
    inputs = batch(seed)
    ours = PairObjective(PolicyConfig(objective=objective, pair_beta=BETA), num_ranks=1)
    terms = ours(inputs, 2 * PAIRS, int(inputs.mask.sum()))
    terms.loss.backward()
    assert inputs.logprobs.grad is not None
    gradient = inputs.logprobs.grad.numpy().copy()
    their_loss, their_gradient = trl(inputs, loss_type)
    assert float(terms.loss.detach()) == pytest.approx(their_loss, abs=1e-5)
    np.testing.assert_allclose(gradient, their_gradient, atol=1e-5)
    assert np.abs(gradient).max() > 1e-3
    assert terms.sums["pairs"] == PAIRS


@pytest.mark.parametrize("objective", ["dpo", "ipo"])
def test_micro_batches_add_up_to_the_whole(objective: Literal["dpo", "ipo"]) -> None:
    inputs = batch(4)
    ours = PairObjective(PolicyConfig(objective=objective, pair_beta=BETA), num_ranks=1)

    def rows(start: int, stop: int) -> TokenInputs:
        part = [getattr(inputs, name)[start:stop] for name in TokenInputs.__slots__]  # type: ignore[attr-defined]
        return TokenInputs(*part)

    tokens = int(inputs.mask.sum())
    parts = [ours(rows(start, stop), 2 * PAIRS, tokens) for start, stop in ((0, 2), (2, 6))]
    assert sum(part.loss.item() for part in parts) == pytest.approx(ours(inputs, 2 * PAIRS, tokens).loss.item())


def test_two_pairs_by_hand() -> None:
    # Ratios to the reference: chosen +1 and 0, rejected -1 and +2.
    policy = torch.tensor([[1.0], [-1.0], [0.0], [2.0]])
    ones = torch.ones(4, 1)
    inputs = TokenInputs(policy, ones * 0, ones * 0, ones * 0, ones, ones)
    terms = PairObjective(PolicyConfig(objective="dpo", pair_beta=0.5), num_ranks=1)(inputs, 4, 4)
    expected = (np.log1p(np.exp(-1.0)) + np.log1p(np.exp(1.0))) / 2  # margins 2 and -2 times beta
    assert float(terms.loss) == pytest.approx(expected, abs=1e-6)
    assert terms.sums["pair_accuracy"] == 1.0
