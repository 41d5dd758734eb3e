"""A judging model on a vLLM engine in this process."""

import asyncio
import math
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from rapo_ray.engines.vllm_engine import Generated, VllmEngine
from rapo_ray.errors import EngineError
from rapo_ray.judging.questions import CHOICE_TOKENS, Question, Reply
from rapo_ray.judging.rendering import check_complete, rendered
from rapo_ray.types import Sampling

CLOSING_TOKENS = 16  # more than what closes a thought


@dataclass(frozen=True, slots=True)
class AskLimits:
    """Token limits of a vllm judge, and arguments of its chat template."""

    model_len: int
    reply: int
    thinking: int = 0
    template_kwargs: dict[str, Any] = field(default_factory=dict)


class VllmAsk:
    """An `Ask` over a vLLM engine: greedy replies, constrained to the question's; a cancelled question is aborted.

    The judge of a choice or a label thinks within `limits.thinking` tokens first, or, with 0, not at all.
    """

    def __init__(self, engine: VllmEngine, limits: AskLimits) -> None:
        self._engine = engine
        self._limits = limits

    async def __call__(self, question: Question) -> Reply:
        """Reply to the question; raises EngineError for a question that is too long or an engine that stopped, and
        JudgeFailure where the model's chat template drops a part of the question.
        """
        sampling, spent = self._sampling(question), 0
        if not _constrained(question):
            prompt = self._unconstrained(question)
        elif self._limits.thinking:
            prompt, spent = await self._thought(question, sampling.max_tokens)
        else:
            prompt = self._without_thinking(question)
        generated = await self._generate(prompt, sampling, sampling.max_tokens)
        spent += len(generated.prompt_tokens) + len(generated.tokens)
        cut = generated.truncated and not question.one_token
        text = generated.text if question.style == "guard" else self._engine.chat.behind_thinking(generated.text)
        return Reply(text.strip(), spent, _probabilities(generated), truncated=cut)

    def _unconstrained(self, question: Question) -> str:
        """The prompt of a guard, or of a judge that replies in text and thinks as its template has it."""
        first, *_ = question.messages
        if first.role == "raw":
            return first.content
        if question.style == "guard":
            return rendered(question.messages, partial(self._engine.render, arguments=self._limits.template_kwargs))
        return self._render(question, {})

    def _without_thinking(self, question: Question) -> str:
        """A prompt that the reply follows at once: the template's own form for that, or a thought that is closed."""
        chat = self._engine.chat
        prompt = self._render(question, {} if chat.off is None else chat.off, quiet=True)
        return prompt + chat.to_answer(prompt, self._is_off())

    def _is_off(self) -> bool:
        """True where the template's argument or word keeps the model from thinking, and no setting undoes that."""
        chat, settings = self._engine.chat, self._limits.template_kwargs
        if chat.off is None:
            return bool(chat.off_word)
        return not any(settings.get(name, value) != value for name, value in chat.off.items()) and not (
            chat.on and all(settings.get(name) == value for name, value in chat.on.items())
        )

    async def _thought(self, question: Question, reply_tokens: int) -> tuple[str, int]:
        """The prompt with the judge's thought behind it, closed where its limit cuts it, and the tokens spent."""
        chat = self._engine.chat
        prompt = self._render(question, chat.on)
        sampling = Sampling(0.0, 1.0, self._limits.thinking, None, logprobs=False)
        generated = await self._generate(prompt, sampling, self._limits.thinking + CLOSING_TOKENS + reply_tokens)
        spent = len(generated.prompt_tokens) + len(generated.tokens)
        thought, mark, _ = generated.text.partition(chat.close_mark)
        begun = chat.opened or chat.open_mark in thought
        if not mark and not generated.truncated and not begun:  # it replied without a thought
            return prompt + chat.to_answer(prompt, quiet=False), spent
        return f"{prompt}{thought.rstrip()}{chat.closing}{chat.answer_start}", spent

    def _render(self, question: Question, arguments: Any, quiet: bool = False) -> str:
        chat = self._engine.chat
        system, user = question.messages
        instruction = chat.without_thinking(system.content) if quiet else system.content
        prompt = self._engine.render(
            chat.turns(instruction, user.content), {**arguments, **self._limits.template_kwargs}
        )
        check_complete(question.messages, prompt)
        return prompt

    async def _generate(self, prompt: str, sampling: Sampling, needed: int) -> Generated:
        tokens = self._engine.encode_text(prompt)
        room = self._limits.model_len - len(tokens)
        if room < needed:
            raise EngineError(
                f"a judge prompt of {len(tokens)} tokens leaves {room} for the reply: raise judge.*.max_model_len"
            )
        (future,) = self._engine.submit([(tokens, sampling)])
        return await asyncio.wrap_future(future)

    def _sampling(self, question: Question) -> Sampling:
        if question.one_token:
            return Sampling(0.0, 1.0, 1, None, logprobs=True, labels=question.replies)
        if question.style == "choice":
            return Sampling(0.0, 1.0, CHOICE_TOKENS, None, logprobs=False, choices=question.replies)
        return Sampling(0.0, 1.0, self._limits.reply + self._limits.thinking, None, logprobs=False)


def _constrained(question: Question) -> bool:
    return question.style in ("choice", "label")


def _probabilities(generated: Generated) -> tuple[float, ...] | None:
    if not generated.label_logprobs:
        return None
    weights = [math.exp(value) for value in generated.label_logprobs]
    return tuple(weight / sum(weights) for weight in weights)
