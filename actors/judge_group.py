"""All judges of a run behind one object."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from actors.ray_calls import ActorHandle, died, unwrap, wait_for_some
from rapo_ray.config.run import LimitsConfig
from rapo_ray.errors import EngineError
from rapo_ray.judging.parts import PARTS, Part, join_parts
from rapo_ray.seeds import chosen
from rapo_ray.types import Completion, GeneratedText, Packed, Prompt, Rollout, Verdict

Asking = tuple[tuple[Part, ...], list[ActorHandle]]
Answer = tuple[Completion, Verdict]
Judged = tuple[Rollout, Completion, Verdict]


class JudgeGroup:
    """All judges of a run: `risk` gives R and `general` gives G, or without the second the first gives both."""

    def __init__(
        self,
        risk: list[ActorHandle],
        general: list[ActorHandle],
        limits: LimitsConfig,
        second: list[ActorHandle] | None = None,
        second_share: float = 0.0,
    ) -> None:
        self._firsts = 2 if general else 1
        self._askings: list[Asking] = [(("risk",), risk), (("general",), general)] if general else [(PARTS, risk)]
        if second:
            self._askings.append((PARTS, second))
        self._limits = limits
        self._second_share = second_share if second else 0.0

    def score(self, prompts_P: list[Prompt], batches: Iterable[Sequence[Rollout]]) -> Iterator[Judged]:
        """Judge each rollout the moment it comes; verdicts come back as they are ready."""
        asked = _Asked(self._limits.judge, self._firsts, self._asks_second)
        for batch in batches:
            for (number, judge), some in self._deal(batch).items():
                parts, judges = self._askings[number]
                prompts = Packed(prompts_P[rollout.group] for rollout in some)
                written = Packed(
                    GeneratedText(rollout.text, rollout.truncated) for rollout in some
                )  # judges need no tokens
                asked.pending[judges[judge].judge.remote(prompts, written, parts)] = (some, number)
            yield from asked.ready()
        while asked.pending:
            yield from asked.wait()

    def _deal(self, batch: Sequence[Rollout]) -> dict[tuple[int, int], list[Rollout]]:
        """Who judges what: all of the first judges each rollout, and the second one its share of them."""
        dealt: dict[tuple[int, int], list[Rollout]] = {}
        for rollout in batch:
            for number, (_, judges) in enumerate(self._askings):
                if number < self._firsts or self._asks_second(rollout):
                    judge = rollout.group % len(judges)  # a prompt's samples share its level, so they share a judge
                    dealt.setdefault((number, judge), []).append(rollout)
        return dealt

    def _asks_second(self, rollout: Rollout) -> bool:
        return bool(self._second_share) and chosen(self._second_share, "second", rollout.prompt_id, rollout.text)


class _Asked:
    """Calls under way, and the rollouts whose verdicts have come in part."""

    def __init__(self, limit: float, firsts: int, asks_second: Callable[[Rollout], bool]) -> None:
        self.pending: dict[Any, tuple[list[Rollout], int]] = {}
        self._limit = limit
        self._firsts = firsts
        self._asks_second = asks_second
        self._found: dict[tuple[int, int], dict[int, Answer]] = {}

    def ready(self) -> Iterator[Judged]:
        """What is judged by now."""
        if self.pending:
            found, _ = ray.wait(list(self.pending), num_returns=len(self.pending), timeout=0)
            yield from self._take(found)

    def wait(self) -> Iterator[Judged]:
        """What is judged next; raises EngineError where nothing is within the limit."""
        found = wait_for_some(list(self.pending), timeout=self._limit)
        if not found:
            raise EngineError(
                f"{len(self.pending)} calls of judges did not end in limits.judge={self._limit:g} s: see their logs"
            )
        yield from self._take(found)

    def _take(self, refs: list[Any]) -> Iterator[Judged]:
        for ref, answers in zip(refs, _answers(refs), strict=True):
            rollouts, number = self.pending.pop(ref)
            for rollout, answer in zip(rollouts, answers, strict=True):
                yield from self._join(rollout, number, answer)

    def _join(self, rollout: Rollout, number: int, answer: Answer) -> Iterator[Judged]:
        """The verdict, once all who judge this rollout have answered."""
        key = (rollout.group, rollout.sample)
        answers = self._found.setdefault(key, {})
        answers[number] = answer
        second = self._asks_second(rollout)
        if len(answers) < self._firsts + second:
            return
        del self._found[key]
        verdict = join_parts([answers[index][1] for index in range(self._firsts)])
        yield rollout, answers[0][0], replace(verdict, second=answers[self._firsts][1]) if second else verdict


def _answers(refs: list[Any]) -> list[list[Answer]]:
    try:
        return list(ray.get(refs))
    except RayTaskError as error:
        raise unwrap(error, "a judge") from error
    except RayError as error:
        raise died(error, "judging") from None
