"""A judge as a Ray actor."""

import asyncio

from rapo_ray.engines.vllm_engine import EngineSettings, Sampling, VllmEngine
from rapo_ray.errors import EngineError
from rapo_ray.judging.completion import parse_completion
from rapo_ray.judging.llm import LlmJudge, Question, Reply
from rapo_ray.judging.parts import Part
from rapo_ray.judging.rules import RulesJudge
from rapo_ray.types import Completion, Prompt, Rollout, Verdict

REPLY_TOKENS = 48  # more than the longest reply has characters


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


class VllmJudgeActor:
    """Judges with a model on its own vLLM engine."""

    def __init__(self, name: str, settings: EngineSettings, judge_id: str, timeout: float) -> None:
        self._name = name
        self._max_tokens = settings.max_model_len - REPLY_TOKENS
        self._engine = VllmEngine(settings)
        self._judge = LlmJudge(self._ask, judge_id, timeout)

    async def ready(self) -> str:
        """Answers once the engine runs."""
        return self._name

    async def judge(self, prompt: Prompt, rollout: Rollout, parts: tuple[Part, ...]) -> tuple[Completion, Verdict]:
        """The asked parts of the verdict on one rollout."""
        completion = parse_completion(rollout.text, rollout.truncated)
        return completion, await self._judge.judge(prompt, completion, parts)

    async def _ask(self, question: Question) -> Reply:
        tokens = self._engine.encode_chat(question.system, question.user)
        if len(tokens) > self._max_tokens:
            raise EngineError(f"a judge prompt of {len(tokens)} tokens is over the judge's limit of {self._max_tokens}")
        sampling = Sampling(0.0, 1.0, REPLY_TOKENS, None, logprobs=False, choices=question.replies)
        (future,) = self._engine.submit([(tokens, sampling)])
        generated = await asyncio.wrap_future(future)
        return Reply(generated.text, len(tokens) + len(generated.tokens))
