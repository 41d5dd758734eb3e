"""A judge as a Ray actor."""

from rapo_ray.judging.backends import JudgeSpec, make_judge
from rapo_ray.judging.completion import parse_completion
from rapo_ray.judging.parts import Part
from rapo_ray.judging.rules import RulesJudge
from rapo_ray.types import Completion, Prompt, Rollout, Verdict


class RulesJudgeActor:
    """Judges by rule."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._judge = RulesJudge()

    async def ready(self) -> str:
        """Answers once it can judge."""
        return self._name

    async def judge(self, prompt: Prompt, rollout: Rollout, parts: tuple[Part, ...]) -> tuple[Completion, Verdict]:
        """The verdict on one rollout; both parts cost nothing here."""
        completion = parse_completion(rollout.text, rollout.truncated)
        return completion, self._judge.judge(prompt, completion)


class ModelJudgeActor:
    """Judges with a model, on a vLLM engine of its own or behind an HTTP endpoint."""

    def __init__(self, name: str, spec: JudgeSpec) -> None:
        self._name = name
        self._judge = make_judge(name, spec)

    async def ready(self) -> str:
        """Answers once the model can be asked."""
        return self._name

    async def judge(self, prompt: Prompt, rollout: Rollout, parts: tuple[Part, ...]) -> tuple[Completion, Verdict]:
        """The asked parts of the verdict on one rollout."""
        completion = parse_completion(rollout.text, rollout.truncated)
        return completion, await self._judge.judge(prompt, completion, parts)
