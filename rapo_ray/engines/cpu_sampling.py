"""CPU sampling from the same distribution as vLLM's sampler, at a fraction of its cost.

vLLM draws an exponential per row for every token of the vocabulary, twice for requests with seeds, and sorts the
vocabulary for top_p: most of a small model's step. One uniform per row, inverted through the cumulative distribution,
and a partial sort give the same distribution (a chi-square test compares it with vLLM's own).
"""

from typing import Any

import torch

BLOCK = 256  # tokens per block: the cumulative sum runs over blocks, then within one
CANDIDATES = 512  # most likely tokens, which usually contain the nucleus
WIDER = 8  # growth factor of the candidates where they do not


def install() -> None:
    """Patch vLLM's CPU sampler in this process; idempotent."""
    from vllm.v1.sample.ops.topk_topp_sampler import TopKTopPSampler

    TopKTopPSampler.forward_cpu = _forward_cpu  # type: ignore[method-assign]


def _forward_cpu(
    self: Any, logits: torch.Tensor, generators: dict[int, torch.Generator], k: Any, p: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Sample tokens [R] from logits [R, V]; also returns the log-probs or logits that they were sampled from."""
    from vllm.v1.sample.ops.topk_topp_sampler import apply_top_k_only

    if k is not None:
        logits = apply_top_k_only(logits, k)
    uniform = uniforms(len(logits), generators)
    logprobs = logits.log_softmax(dim=-1, dtype=torch.float32)
    if p is None:
        tokens = sample(logprobs.exp(), uniform)
    else:
        tokens, logprobs = sample_nucleus(logprobs, p, uniform)
    if self.logprobs_mode == "processed_logits":
        return tokens, logits.masked_fill(logprobs.isneginf(), -torch.inf)
    return tokens, logprobs if self.logprobs_mode == "processed_logprobs" else None


def uniforms(rows: int, generators: dict[int, torch.Generator]) -> torch.Tensor:
    """Draw one uniform in [0, 1) per row, [R] float64, from the row's own generator where it has one."""
    uniform = torch.rand(rows, dtype=torch.float64)
    for row, generator in generators.items():
        uniform[row] = torch.rand((), dtype=torch.float64, generator=generator)
    return uniform


def sample(probs: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """Tokens [R] where each row's cumulative sum of `probs` [R, V] passes the fraction `uniform` [R] of its total."""
    rows, width = probs.shape
    if width % BLOCK:
        probs = torch.nn.functional.pad(probs, (0, BLOCK - width % BLOCK))
    blocks = probs.view(rows, -1, BLOCK)
    over_blocks = blocks.sum(-1).double().cumsum(-1)
    target = (uniform * over_blocks[:, -1]).unsqueeze(1)
    block = _first_above(over_blocks, target)
    before = over_blocks.gather(1, (block - 1).clamp(min=0)).where(block > 0, 0.0)
    within = blocks[torch.arange(rows), block.squeeze(1)].double().cumsum(-1)
    return (block * BLOCK + _first_above(within, target - before)).squeeze(1)


def _first_above(cumulative: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Index [R, 1] of the first of `cumulative` [R, N] above `target` [R, 1], which rounding may push to its end."""
    last = torch.nextafter(cumulative[:, -1:], torch.zeros((), dtype=cumulative.dtype))
    return torch.searchsorted(cumulative, torch.minimum(target, last).clamp(min=0.0), right=True)


def sample_nucleus(
    logprobs: torch.Tensor, p: torch.Tensor, uniform: torch.Tensor, candidates: int = CANDIDATES
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sample tokens [R]; also log-probs [R, V], -inf outside the nucleus: the smallest set with `p` [R] of the mass.

    Everything but the result is only as wide as the candidates, since passes over the vocabulary dominate the cost.
    """
    values, ids = logprobs.topk(min(candidates, logprobs.shape[1]), dim=-1)
    mass = values.exp()
    through = mass.cumsum(-1)
    nucleus = (through - mass) < p.unsqueeze(1)
    nucleus[:, 0] = True  # the smallest p of a request is 0 in float32
    within = mass.where(nucleus, 0.0).double().cumsum(-1)
    total = within[:, -1:]
    tokens = ids.gather(1, _first_above(within, uniform.unsqueeze(1) * total)).squeeze(1)
    scaled = (values - total.log().float()).masked_fill(~nucleus, -torch.inf)
    out = torch.full_like(logprobs, -torch.inf).scatter_(1, ids, scaled)
    if candidates < logprobs.shape[1]:
        wide = (through[:, -1] < p).nonzero().squeeze(1)  # rows whose nucleus exceeds the candidates
        if len(wide):
            tokens[wide], out[wide] = sample_nucleus(logprobs[wide], p[wide], uniform[wide], candidates * WIDER)
    return tokens, out
