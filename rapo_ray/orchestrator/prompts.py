"""The prompts of each round: the sampler's, of which an attacker replaces a share."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rapo_ray.attacks.attacked import under_chain
from rapo_ray.attacks.attacker import Attacker, State
from rapo_ray.data import sampler as sampling
from rapo_ray.data.contamination import Guard
from rapo_ray.errors import CheckpointError
from rapo_ray.reward.outcomes import outcomes
from rapo_ray.types import DroppedAttacks, Group, Prompt

Lengths = Callable[[list[Prompt]], list[int]]  # tokens of rendered prompts
Pair = tuple[Prompt, Prompt]  # an attack on a harmful prompt and its benign twin


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of what may be sent: nothing that a suite holds, and nothing too long for the engines."""

    guard: Guard
    lengths: Lengths
    max_tokens: int


class RoundAttacks:
    """Replaces `pairs` harmful and as many benign prompts of a batch by attacks and their benign twins."""

    def __init__(self, attacker: Attacker, pairs: int, limits: Limits, seed: int) -> None:
        self.attacker = attacker
        self._pairs = pairs
        self._limits = limits
        self._seed = seed

    def replace(self, prompts_P: list[Prompt], number: int) -> tuple[list[Prompt], DroppedAttacks]:
        """The batch of round `number` under attack, and the pairs that were dropped: their places stay plain."""
        harmful = [index for index, prompt in enumerate(prompts_P) if prompt.harmful]
        benign = [index for index, prompt in enumerate(prompts_P) if not prompt.harmful]
        count = min(self._pairs, len(harmful), len(benign))
        generator = random.Random(f"{self._seed}/attacked/{number}")
        places = list(zip(generator.sample(harmful, count), generator.sample(benign, count), strict=True))
        attacks = self.attacker.propose([prompts_P[index] for index, _ in places], number)
        pairs = [(attack, _twin(attack, prompts_P[index])) for attack, (_, index) in zip(attacks, places, strict=True)]
        flaws = self._flaws(pairs)
        batch = list(prompts_P)
        for pair, (attacked, twin), flaw in zip(pairs, places, flaws, strict=True):
            if not flaw:
                batch[attacked], batch[twin] = pair
        return batch, DroppedAttacks(**{name: flaws.count(name) for name in DroppedAttacks.__slots__})

    def _flaws(self, pairs: Sequence[Pair]) -> list[str]:
        """For each pair the reason to drop it, a field of DroppedAttacks, or nothing."""
        prompts = [prompt for pair in pairs for prompt in pair]
        lengths = dict(zip((one.id for one in prompts), self._limits.lengths(prompts) if prompts else [], strict=True))

        def flaw(pair: Pair) -> str:
            if any(prompt.attack is None for prompt in pair):
                return "failed"
            if any(self._limits.guard.find(prompt) for prompt in pair):
                return "contaminated"
            return "too_long" if any(lengths[prompt.id] > self._limits.max_tokens for prompt in pair) else ""

        return [flaw(pair) for pair in pairs]


def _twin(attacked: Prompt, benign: Prompt) -> Prompt:
    """The benign prompt under the attack's chain; the benign prompt itself where there is no attack."""
    attack = attacked.attack
    return (
        benign if attack is None else under_chain(benign, attack.chain, attack.attacker, attack.version, attack.number)
    )


class TrainingPrompts:
    """The source of a run's prompts, and of what their attacker has learned."""

    def __init__(self, sampler: sampling.PromptSampler, attacks: RoundAttacks | None) -> None:
        self._sampler = sampler
        self._attacks = attacks
        self._dropped: dict[int, DroppedAttacks] = {}  # of rounds that are not finished

    def next_batch(self, number: int) -> list[Prompt]:
        """The prompts of round `number`, which comes after the one before."""
        prompts_P = self._sampler.next_batch()
        if self._attacks is None:
            return prompts_P
        prompts_P, self._dropped[number] = self._attacks.replace(prompts_P, number)
        return prompts_P

    def learn(self, number: int, groups_P: Sequence[Group]) -> DroppedAttacks | None:
        """Let the attacker learn from a finished round; returns the round's dropped attacks, None without an attacker.

        The prompts of a prefetched round were chosen before that.
        """
        if self._attacks is None:
            return None
        self._attacks.attacker.learn(outcomes(groups_P))
        return self._dropped.pop(number)

    def states(self) -> tuple[sampling.State, State | None]:
        """States of the sampler and of the attacker, if there is one."""
        return self._sampler.state(), None if self._attacks is None else self._attacks.attacker.state()

    def restore(self, sampler: sampling.State, attacker: State | None) -> None:
        """Continue exactly from these states; raises DataError or CheckpointError where they belong to another run."""
        self._sampler.restore(sampler)
        if self._attacks is None:
            return
        if attacker is None:
            raise CheckpointError(
                "the checkpoint holds no state of an attacker, but data.attack asks for one: start a new run"
            )
        self._attacks.attacker.restore(attacker)
