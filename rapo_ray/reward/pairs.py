"""Online preference pairs: the best against the worst of a group (pure)."""

from collections.abc import Sequence
from dataclasses import dataclass

from rapo_ray.types import Group, Prompt, Sample


@dataclass(frozen=True, slots=True)
class Pair:
    """Two completions of a prompt, one of them better by `margin`."""

    prompt: Prompt
    chosen: Sample
    rejected: Sample
    margin: float


def make_pairs(groups_P: Sequence[Group], min_margin: float) -> list[Pair]:
    """One pair of each credited group whose best reward exceeds its worst by more than `min_margin`; ties have none.

    Of equal rewards the first sampled is taken. A group that the credit filter dropped (no advantages) has no pair.
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
