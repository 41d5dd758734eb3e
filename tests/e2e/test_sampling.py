"""Our CPU sampler against vLLM's: the same distribution, nucleus and log-probs, and per-request seeds."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from scipy import stats

from rapo_ray.engines import cpu_sampling

pytestmark = pytest.mark.e2e

VOCABULARY = 700  # no multiple of the block
DRAWS = 20_000
LEAST = 1e-4  # p-value below which two samplers differ; the seeds are fixed


@pytest.fixture(scope="module")
def theirs() -> Any:
    """Load vLLM's own sampler, which ours replaces on CPU only."""
    from vllm.v1.sample.ops.topk_topp_sampler import TopKTopPSampler

    return TopKTopPSampler.forward_native


def sampler() -> Any:
    return SimpleNamespace(logprobs_mode="processed_logprobs", use_fp64_gumbel=False)


def logits(rows: int, scale: float = 2.0) -> torch.Tensor:
    """Repeat the same random row `rows` times."""
    row = torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(3)) * scale
    return row.repeat(rows, 1)


def counts(tokens: torch.Tensor) -> torch.Tensor:
    return torch.bincount(tokens, minlength=VOCABULARY)


@pytest.mark.parametrize("top_p", [None, 0.9])
@pytest.mark.parametrize("temperature", [1.0, 1.2])
def test_the_distribution_is_vllm_s(theirs: Any, top_p: float | None, temperature: float) -> None:
    p = None if top_p is None else torch.full((DRAWS,), top_p)
    torch.manual_seed(1)
    ours, logprobs = cpu_sampling._forward_cpu(sampler(), logits(DRAWS) / temperature, {}, None, p)
    reference, their_logprobs = theirs(sampler(), logits(DRAWS) / temperature, {}, None, p)
    assert logprobs is not None
    torch.testing.assert_close(logprobs[0], their_logprobs[0])
    expected = logprobs[0].exp().double() * DRAWS
    common = expected >= 5  # where the chi-square approximation holds
    assert counts(ours)[expected == 0].sum() == 0
    for tokens in (ours, reference):
        observed = counts(tokens).double()
        pooled = torch.cat([observed[common], observed[~common].sum(0, keepdim=True)])
        wanted = torch.cat([expected[common], expected[~common].sum(0, keepdim=True)])
        pooled, wanted = pooled[wanted > 0], wanted[wanted > 0]
        assert stats.chisquare(pooled, wanted * pooled.sum() / wanted.sum()).pvalue > LEAST
    both = torch.stack([counts(ours)[common], counts(reference)[common]])
    assert stats.chi2_contingency(both.numpy()).pvalue > LEAST


@pytest.mark.parametrize("scale", [0.01, 1.0, 4.0])  # a nucleus of nearly all tokens, and of a few
def test_the_nucleus_is_the_smallest_set_with_its_mass(theirs: Any, scale: float) -> None:
    p = torch.tensor([0.1, 0.5, 0.9, 0.999])
    uniforms = torch.full((4,), 0.5, dtype=torch.float64)
    _, ours = cpu_sampling.sample_nucleus(logits(4, scale).log_softmax(-1), p, uniforms, candidates=8)
    _, reference = theirs(sampler(), logits(4, scale), {}, None, p)
    assert torch.equal(ours.isfinite(), reference.isfinite())
    torch.testing.assert_close(ours, reference)


def test_a_seeded_row_samples_the_same_token_in_any_batch() -> None:
    def seeded() -> torch.Generator:
        return torch.Generator().manual_seed(7)

    alone, _ = cpu_sampling._forward_cpu(sampler(), logits(1), {0: seeded()}, None, None)
    beside, _ = cpu_sampling._forward_cpu(sampler(), logits(5), {3: seeded()}, None, None)
    assert beside[3] == alone[0]


def test_a_token_without_mass_is_never_sampled_despite_rounding() -> None:
    probs = torch.zeros(3, 600)
    probs[0, 255] = probs[1, 256] = probs[2, 599] = 0.3
    for uniform in (0.0, 0.5, 1 - 2**-53):
        tokens = cpu_sampling.sample(probs, torch.full((3,), uniform, dtype=torch.float64))
        assert tokens.tolist() == [255, 256, 599]


def test_the_smallest_top_p_leaves_the_likeliest_token(theirs: Any) -> None:
    p = torch.full((3,), 5e-324)  # valid in a request, but 0 in float32
    ours, _ = cpu_sampling._forward_cpu(sampler(), logits(3), {}, None, p)
    reference, _ = theirs(sampler(), logits(3), {}, None, p)
    assert ours.tolist() == reference.tolist() == [int(logits(1).argmax())] * 3
