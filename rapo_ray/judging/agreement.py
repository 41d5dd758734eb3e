"""Agreement of two judges beyond chance (pure)."""

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from rapo_ray.types import Sample


def cohens_kappa(pairs: Sequence[tuple[Hashable, Hashable]]) -> float | None:
    """Cohen's kappa (1960) of paired labels, in [-1, 1]; None without pairs or where agreement by chance is 1."""
    if not pairs:
        return None
    labels = {label for pair in pairs for label in pair}
    observed = sum(one == other for one, other in pairs) / len(pairs)
    expected = (
        sum(sum(one == label for one, _ in pairs) * sum(other == label for _, other in pairs) for label in labels)
        / len(pairs) ** 2
    )
    return None if expected == 1 else (observed - expected) / (1 - expected)


def agreement(samples: Iterable[Sample]) -> dict[str, Any]:
    """Kappa and plain agreement of the first and the second judge, over the samples that both scored."""
    both = [
        (sample.verdict, sample.verdict.second)
        for sample in samples
        if sample.verdict.second is not None and sample.verdict.scorable and sample.verdict.second.scorable
    ]
    metrics: dict[str, Any] = {"n": len(both)}
    for part in ("risk", "general"):
        pairs = [(getattr(first, part), getattr(second, part)) for first, second in both]
        metrics[f"{part}_kappa"] = cohens_kappa(pairs)
        metrics[f"{part}_agreement"] = sum(one == other for one, other in pairs) / len(pairs) if pairs else None
    return metrics
