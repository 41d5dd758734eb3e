"""An attacker: it makes attacks on given prompts, and learns from what became of them."""

from collections.abc import Sequence
from typing import Protocol

from rapo_ray.types import Message, Prompt, message

State = dict[str, object]  # plain JSON values


@message
class Outcome(Message):
    """One attack and its success, which is None where no verdict came: that counts as neither."""

    prompt: Prompt  # with its Attack
    success: bool | None  # the answer did harm; of a benign twin: it was not helped
    reply: str = ""  # the target's answer, for attackers that read it


class Attacker(Protocol):
    """Attacks come from a seed and a state alone, so that a resumed run makes the same."""

    name: str
    version: int

    def propose(self, seeds_P: Sequence[Prompt], number: int) -> list[Prompt]:
        """One attack on each seed, in order; `number` is the round, or the try."""
        ...

    def learn(self, outcomes: Sequence[Outcome]) -> None:
        """Take outcomes into account; a failed one changes nothing and raises nothing."""
        ...

    def state(self) -> State:
        """All that has been learned."""
        ...

    def restore(self, state: State) -> None:
        """Go on exactly from a state; raises DataError where it is none of this attacker's."""
        ...
