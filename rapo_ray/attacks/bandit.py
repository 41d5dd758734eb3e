"""An attacker without a model: it looks for the families and the complexity at which the target is undecided.

Each family at each complexity k is an arm with a Beta posterior of its success rate p (Thompson 1933). An attack takes
the arms whose sampled p(1 - p) is largest: where the target always falls or never does, a group of samples has no
signal. Counts decay from round to round, for the target changes.
"""

import random
from collections.abc import Sequence

from rapo_ray.attacks.attacked import under_chain
from rapo_ray.attacks.attacker import Outcome, State
from rapo_ray.attacks.chain import Chain
from rapo_ray.errors import DataError
from rapo_ray.types import Prompt

DECAY = 0.8  # of all counts, a call of `learn`: the last five rounds weigh most
Arm = tuple[int, str]  # complexity k, and a family of the chain


class Bandit:
    """Chains of 1 to `max_k` of the families, of which there are at least that many."""

    name = "bandit"

    def __init__(self, families: Sequence[str], max_k: int, seed: int) -> None:
        self.version = 0  # number of rounds that it has seen
        self._families = sorted(families)
        self._max_k = max_k
        self._seed = seed
        self._counts: dict[Arm, tuple[float, float]] = {  # successes and failures
            (k, family): (0.0, 0.0) for k in range(1, max_k + 1) for family in self._families
        }

    def propose(self, seeds_P: Sequence[Prompt], number: int) -> list[Prompt]:
        """One attack on each seed, in order, with a chain of its own."""
        generator = random.Random(f"{self._seed}/{self.version}/{number}")
        return [under_chain(seed, self._chain(generator), self.name, self.version, number) for seed in seeds_P]

    def learn(self, outcomes: Sequence[Outcome]) -> None:
        """Count what became of attacks on harmful prompts; benign twins say nothing about them."""
        self._counts = {arm: (DECAY * won, DECAY * failed) for arm, (won, failed) in self._counts.items()}
        for outcome in outcomes:
            attack, success = outcome.prompt.attack, outcome.success
            if attack is None or success is None or not outcome.prompt.harmful:
                continue
            for family in attack.chain:
                won, failed = self._counts[len(attack.chain), family]
                self._counts[len(attack.chain), family] = (won + success, failed + (not success))
        self.version += 1

    def state(self) -> State:
        """Counts of all arms, as `k/family`."""
        return {
            "version": self.version,
            "counts": {f"{k}/{family}": list(counts) for (k, family), counts in self._counts.items()},
        }

    def restore(self, state: State) -> None:
        """Go on exactly from a state; raises DataError where its arms are others."""
        version, counts = state.get("version"), state.get("counts")
        names = {f"{k}/{family}": (k, family) for k, family in self._counts}
        if not isinstance(version, int) or not isinstance(counts, dict) or counts.keys() != names.keys():
            raise DataError(
                f"the attacker's state has other arms than data.attack gives now, families {', '.join(self._families)} "
                f"and k up to {self._max_k}: resume with the same data.attack, or start a new run"
            )
        self.version = version
        self._counts = {names[name]: (float(won), float(failed)) for name, (won, failed) in counts.items()}

    def _chain(self, generator: random.Random) -> Chain:
        """The k whose most promising families are the most promising together, and its k best, in a random order."""
        ranked = [self._ranked(k, generator) for k in range(1, self._max_k + 1)]
        sums = [sum(promise for promise, _ in best) for best in ranked]
        k = max(range(1, self._max_k + 1), key=lambda k: sums[k - 1])
        families = [family for _, family in ranked[k - 1][:k]]
        return tuple(generator.sample(families, k))

    def _ranked(self, k: int, generator: random.Random) -> list[tuple[float, str]]:
        """The `max_k` families of the largest sampled p(1 - p) at k: as many for each k, so that none is favoured."""
        sampled = [(generator.betavariate(1 + won, 1 + failed), family) for family, (won, failed) in self._at(k)]
        return sorted(((p * (1 - p), family) for p, family in sampled), reverse=True)[: self._max_k]

    def _at(self, k: int) -> list[tuple[str, tuple[float, float]]]:
        return [(family, self._counts[k, family]) for family in self._families]
