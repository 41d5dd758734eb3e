"""A judge as a Ray actor."""

import asyncio

from rapo_ray.judging.backends import JudgeSpec, make_judge
from rapo_ray.judging.parts import Part
from rapo_ray.judging.rules import RulesJudge
from rapo_ray.models.chat import parse_completion
from rapo_ray.types import Completion, GeneratedText, Packed, Prompt, Verdict

Answer = tuple[Completion, Verdict]


class RulesJudgeActor:
    """Judges by rule."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._judge = RulesJudge()

    async def ready(self) -> str:
        """Its name, once it can judge."""
        return self._name

    async def judge(self, prompts: list[Prompt], texts: list[GeneratedText], parts: tuple[Part, ...]) -> list[Answer]:
        """The verdict on each completion; both parts cost nothing here."""
        completions = [parse_completion(each.text, each.truncated) for each in texts]
        return Packed(
            (completion, self._judge.judge(prompt, completion))
            for prompt, completion in zip(prompts, completions, strict=True)
        )


class ModelJudgeActor:
    """Judges with a model, on a vLLM engine of its own or behind an HTTP endpoint."""

    def __init__(self, name: str, spec: JudgeSpec) -> None:
        self._name = name
        self._judge = make_judge(name, spec)

    async def ready(self) -> str:
        """Its name, once the model can be queried."""
        return self._name

    async def judge(self, prompts: list[Prompt], texts: list[GeneratedText], parts: tuple[Part, ...]) -> list[Answer]:
        """The requested parts of the verdict on each completion, judged concurrently."""
        completions = [parse_completion(each.text, each.truncated) for each in texts]
        verdicts = await asyncio.gather(
            *(
                self._judge.judge(prompt, completion, parts)
                for prompt, completion in zip(prompts, completions, strict=True)
            )
        )
        return Packed(zip(completions, verdicts, strict=True))
