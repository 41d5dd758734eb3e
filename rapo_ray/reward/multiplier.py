"""The Lagrange multiplier of a bound on over-refusal: a weight on G of benign prompts (pure).

To refuse everything is an equilibrium of training against attacks (arXiv 2605.08427). As in constrained policy
optimisation by a primal-dual method, the multiplier rises with each round that violates the bound, in proportion to
the excess, and falls while the bound holds.
"""

STEP = 1.0  # of the multiplier, a round, times the excess
LARGEST = 10.0  # a bound that cannot be met would otherwise raise it for ever


def next_multiplier(multiplier: float, measured: float | None, bound: float | None) -> float:
    """The multiplier after a round with this over-refusal, in [0, 10]; unchanged where none was measured."""
    if bound is None or measured is None:
        return multiplier
    return min(LARGEST, max(0.0, multiplier + STEP * (measured - bound)))
