"""The judge and the reward of a recipe, callable from synchronous code."""

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from rapo_ray.config import RunConfig
from rapo_ray.judging.local import local_judge
from rapo_ray.models.chat import PLAIN, ChatFormat, parse_completion
from rapo_ray.reward.schemes import SCHEMES, is_unsafe
from rapo_ray.types import Prompt, Verdict


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict with the reward of `credit.scheme` and `credit.parts`; a failed verdict has no reward."""

    verdict: Verdict
    reward: float | None
    unsafe: bool | None


class RapoReward:
    """The judge that `config.judge` describes, in this process, for many completions at once."""

    def __init__(self, config: RunConfig, chat: ChatFormat = PLAIN) -> None:
        """`chat` is the format of the completions."""
        self._chat = chat
        self._credit = config.credit
        self._judge = local_judge(config)
        # One loop throughout: an HTTP judge's connections belong to the loop that opened them.
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="rapo-reward", daemon=True).start()

    def __call__(
        self, prompts: Sequence[Prompt], completions: Sequence[str], truncated: Sequence[bool]
    ) -> list[Judged]:
        """Verdict and reward of each completion, in order."""
        verdicts = asyncio.run_coroutine_threadsafe(self._all(prompts, completions, truncated), self._loop).result()
        return [self._judged(prompt, verdict) for prompt, verdict in zip(prompts, verdicts, strict=True)]

    async def _all(
        self, prompts: Sequence[Prompt], completions: Sequence[str], truncated: Sequence[bool]
    ) -> list[Verdict]:
        rows = zip(prompts, completions, truncated, strict=True)
        completions_B = [(prompt, parse_completion(text, cut, self._chat)) for prompt, text, cut in rows]
        return await asyncio.gather(*(self._judge(prompt, completion) for prompt, completion in completions_B))

    def _judged(self, prompt: Prompt, verdict: Verdict) -> Judged:
        reward = SCHEMES[self._credit.scheme].reward(verdict, prompt.harmful, self._credit.parts)
        return Judged(verdict, reward, None if reward is None else is_unsafe(verdict, prompt.harmful))
