"""Online preference pairs: the best completion of a group against its worst (pure)."""

from collections.abc import Sequence
from dataclasses import dataclass

from rapo_ray.types import Group, Prompt, Sample


@dataclass(frozen=True, slots=True)
class Pair:
    """Two completions of a prompt; the reward of the chosen one is higher by `margin`."""

    prompt: Prompt
    chosen: Sample
    rejected: Sample
    margin: float


def make_pairs(groups_P: Sequence[Group], min_margin: float) -> list[Pair]:
    """One pair for each credited group whose best reward exceeds its worst by more than `min_margin`; ties give none.

    Among equal rewards the first sample is taken. A zero-variance group (no advantages) gives no pair.
    """
    pairs = []
    for group in groups_P:
        scored = [(s.reward, s) for s in group.samples_G if s.reward is not None and s.advantage is not None]
        if not scored:
            continue
        best, chosen = max(scored, key=lambda item: item[0])
        worst, rejected = min(scored, key=lambda item: item[0])
        if best - worst > min_margin:
            pairs.append(Pair(group.prompt, chosen, rejected, best - worst))
    return pairs
