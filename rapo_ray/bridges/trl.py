"""RAPO's reward as a TRL reward function (for GRPOTrainer and related trainers, TRL 1.x).

from rapo_ray.bridges.trl import TrlReward, training_rows
config = load_config("quickstart", [])
reward = TrlReward(config, tokenizer=tokenizer)
trainer = GRPOTrainer(..., reward_funcs=reward, train_dataset=Dataset.from_list(training_rows(config)))
"""

import logging
from collections.abc import Sequence
from typing import Any

from rapo_ray.bridges.prompts import training_prompts
from rapo_ray.bridges.reward import RapoReward
from rapo_ray.config import RunConfig
from rapo_ray.data.dialogue import Request, dialogue_of
from rapo_ray.data.rows import RowError
from rapo_ray.engines.vllm_engine import text_of
from rapo_ray.errors import DataError
from rapo_ray.models.chat import PLAIN
from rapo_ray.models.chat_template import read_format, special_ids
from rapo_ray.types import Prompt

log = logging.getLogger(__name__)


class TrlReward:
    """Reward function for `reward_funcs`; the dataset needs the column `harmful` and may have `level`."""

    def __init__(self, config: RunConfig, max_completion_length: int | None = None, tokenizer: Any = None) -> None:
        """A completion of `max_completion_length` tokens counts as truncated.

        With the tokenizer of the model that TRL trains, completions are read in that model's chat format; TRL's own
        texts lack marks that are special tokens.
        """
        self.__name__ = "rapo"  # its name in TRL's metrics
        self._chat = PLAIN if tokenizer is None else read_format(tokenizer, config.model.thinking)
        self._tokenizer = tokenizer
        if self._chat.on:
            log.warning("this model thinks only with GRPOConfig(chat_template_kwargs=%s)", dict(self._chat.on))
        self._hidden = frozenset() if tokenizer is None else special_ids(tokenizer).difference(self._chat.mark_ids)
        self._reward = RapoReward(config, self._chat)
        self._max_length = max_completion_length

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]],
        harmful: Sequence[bool] | None = None,
        level: Sequence[int | None] | None = None,
        **_: Any,
    ) -> list[float | None]:
        """A reward for each completion, or None where the judge failed, which TRL leaves out. Raises DataError."""
        if harmful is None:
            raise DataError("the training dataset has no column 'harmful': RAPO's reward depends on it; add it")
        levels = level if level is not None else [None] * len(prompts)
        requests = [
            Prompt(str(index), text, bool(label), risk_level, "trl", "train", turns=turns)
            for index, (prompt, label, risk_level) in enumerate(zip(prompts, harmful, levels, strict=True))
            for turns, text in [_request(index, prompt)]
        ]
        if self._tokenizer is None:
            texts = [_text(completion) for completion in completions]
        else:
            texts = [self._decoded(ids) for ids in completion_ids]
        truncated = [self._max_length is not None and len(ids) >= self._max_length for ids in completion_ids]
        return [judged.reward for judged in self._reward(requests, texts, truncated)]

    def _decoded(self, ids: Sequence[int]) -> str:
        """The text of a completion, with the format's marks and without the end of its turn."""
        shown = ids[:-1] if ids and ids[-1] in self._chat.stops else ids
        return text_of([], list(shown), self._tokenizer, self._hidden)


def _request(index: int, prompt: Any) -> Request:
    """Earlier turns and the last request of a prompt, a text or a conversation behind its system turn."""
    if isinstance(prompt, str):
        return (), prompt
    try:
        return dialogue_of([turn for turn in prompt if turn["role"] != "system"])
    except RowError as error:
        raise DataError(f"prompt {index} of the batch: {error}") from None


def _text(completion: Any) -> str:
    """The completion itself if it is text, else the last turn of its conversation, which is the assistant's."""
    if isinstance(completion, str):
        return completion
    turns = [turn["content"] for turn in completion if turn["role"] == "assistant"]
    if not turns:
        raise DataError("a completion has no turn of the assistant")
    return str(turns[-1])


def training_rows(config: RunConfig) -> list[dict[str, Any]]:
    """Prompts of `data.train` as rows of a conversational TRL dataset."""
    return [
        {"prompt": turns, "harmful": prompt.harmful, "level": prompt.level}
        for turns, prompt in training_prompts(config)
    ]
