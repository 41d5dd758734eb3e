"""A judge as a Ray actor."""

import asyncio

from rapo_ray.judging.backends import JudgeSpec, judge_engine, make_judge, probe_endpoint
from rapo_ray.judging.gather import Answer
from rapo_ray.judging.local import JudgeParts, judge_by_rule
from rapo_ray.judging.parts import Part
from rapo_ray.models.chat import ChatFormat, parse_completion
from rapo_ray.types import GeneratedText, Packed, Prompt


class JudgeActor:
    """Judges many completions in one call."""

    def __init__(self, name: str, judge: JudgeParts, chat: ChatFormat) -> None:
        self._name = name
        self._judge = judge
        self._chat = chat  # of the completions, which are the policy's

    async def ready(self) -> str:
        """Its name, once it can judge."""
        return self._name

    async def warning(self) -> str | None:
        """None: nothing about it needs a warning."""
        return None

    async def judge(self, prompts: list[Prompt], texts: list[GeneratedText], parts: tuple[Part, ...]) -> list[Answer]:
        """The requested parts of the verdict on each completion, judged concurrently."""
        completions = [parse_completion(each.text, each.truncated, self._chat) for each in texts]
        pairs = zip(prompts, completions, strict=True)
        verdicts = await asyncio.gather(*(self._judge(prompt, completion, parts) for prompt, completion in pairs))
        return Packed(zip(completions, verdicts, strict=True))

    async def sleep(self) -> None:
        """Free the cards that it lives on, if any, until `wake`."""

    async def wake(self) -> None:
        """Take its cards again."""


class RulesJudgeActor(JudgeActor):
    """Judges by rule."""

    def __init__(self, name: str, chat: ChatFormat) -> None:
        super().__init__(name, judge_by_rule, chat)


class ModelJudgeActor(JudgeActor):
    """Judges with a model, on a vLLM engine of its own or behind an HTTP endpoint."""

    def __init__(self, name: str, spec: JudgeSpec, chat: ChatFormat) -> None:
        self._engine = judge_engine(spec)
        self._unprobed: JudgeSpec | None = spec
        self._warning: str | None = None
        super().__init__(name, make_judge(name, spec, self._engine).judge, chat)

    async def ready(self) -> str:
        """Its name, once it can judge; raises JudgeError where its endpoint refuses the first call."""
        if self._unprobed is not None:
            self._warning = await probe_endpoint(self._unprobed)
            self._unprobed = None
        return await super().ready()

    async def warning(self) -> str | None:
        """A line for the user about its endpoint's first reply, or None."""
        return self._warning

    async def sleep(self) -> None:
        """Free the cards of its engine; the weights, which never change, wait in host memory."""
        if self._engine is not None:
            self._engine.sleep(level=1)

    async def wake(self) -> None:
        """Take the cards again."""
        if self._engine is not None:
            self._engine.wake()
