"""A judging model on a vLLM engine in this process."""

import asyncio
import math

from rapo_ray.engines.vllm_engine import Generated, VllmEngine
from rapo_ray.errors import EngineError
from rapo_ray.judging.questions import Question, Reply
from rapo_ray.judging.rendering import rendered
from rapo_ray.types import Sampling

CHOICE_TOKENS = 64  # more than the longest reply has characters


class VllmAsk:
    """An `Ask` over a vLLM engine: greedy replies, constrained to the question's; a cancelled question is aborted."""

    def __init__(self, engine: VllmEngine, max_model_len: int, max_reply_tokens: int) -> None:
        self._engine = engine
        self._max_model_len = max_model_len
        self._max_reply_tokens = max_reply_tokens

    async def __call__(self, question: Question) -> Reply:
        """Reply to the question; raises EngineError for a question that is too long or an engine that stopped, and
        JudgeFailure where the model's chat template drops a part of the question.
        """
        tokens = self._encode(question)
        sampling = self._sampling(question)
        room = self._max_model_len - len(tokens)
        if room < sampling.max_tokens:
            raise EngineError(
                f"a judge prompt of {len(tokens)} tokens leaves {room} for the reply: raise judge.*.max_model_len"
            )
        (future,) = self._engine.submit([(tokens, sampling)])
        generated = await asyncio.wrap_future(future)
        spent = len(generated.prompt_tokens) + len(generated.tokens)
        cut = generated.truncated and not question.one_token
        return Reply(generated.text.strip(), spent, _probabilities(generated), truncated=cut)

    def _encode(self, question: Question) -> list[int]:
        first, *_ = question.messages
        prompt = first.content if first.role == "raw" else rendered(question.messages, self._engine.render)
        return self._engine.encode_text(prompt)

    def _sampling(self, question: Question) -> Sampling:
        if question.one_token:
            return Sampling(0.0, 1.0, 1, None, logprobs=True, labels=question.replies)
        choices = question.replies if question.style == "choice" else ()
        limit = CHOICE_TOKENS if choices else self._max_reply_tokens
        return Sampling(0.0, 1.0, limit, None, logprobs=False, choices=choices)


def _probabilities(generated: Generated) -> tuple[float, ...] | None:
    if not generated.label_logprobs:
        return None
    weights = [math.exp(value) for value in generated.label_logprobs]
    return tuple(weight / sum(weights) for weight in weights)
