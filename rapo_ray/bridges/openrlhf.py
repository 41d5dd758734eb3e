"""RAPO's reward for OpenRLHF (0.11), as `--remote_rm_url reward_func.py` or as an agent.

This file serves as both. OpenRLHF passes on each prompt's `label`, which must be the JSON that `training_rows` writes.
RAPO_BRIDGE_CONFIG names the recipe whose judge and credit scheme are used, by default the quickstart.
RAPO_BRIDGE_MODEL names the model that OpenRLHF trains, whose chat format completions are read in; without it they have
the plain form, and end in an end-of-turn token of a common chat template.

OpenRLHF cannot leave a single completion out of a group. Since a failed verdict is never a score, it raises: the error
of the agent ends OpenRLHF's run, that of `reward_func` is logged there and the completion gets no reward.
"""

import asyncio
import functools
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from openrlhf.utils.agent import AgentInstanceBase, MultiTurnAgentExecutor

from rapo_ray.bridges.prompts import training_prompts
from rapo_ray.bridges.reward import Judged, RapoReward
from rapo_ray.config import RunConfig
from rapo_ray.data.dialogue import cell_of, request_of
from rapo_ray.errors import DataError, JudgeError
from rapo_ray.models.chat import COMMON_END, PLAIN
from rapo_ray.models.chat_template import format_of_folder, load_tokenizer
from rapo_ray.models.resolve import resolve_model
from rapo_ray.types import Prompt

CONFIG_VARIABLE = "RAPO_BRIDGE_CONFIG"
MODEL_VARIABLE = "RAPO_BRIDGE_MODEL"


@dataclass(frozen=True, slots=True)
class Bridge:
    """The reward, and the end of a complete text."""

    reward: RapoReward
    end: re.Pattern[str]


@functools.cache
def _bridge() -> Bridge:
    from rapo_ray.config.load import load_config

    config = load_config(os.environ.get(CONFIG_VARIABLE, "quickstart"), [])
    chat, tokens = PLAIN, COMMON_END
    if (model := os.environ.get(MODEL_VARIABLE)) is not None:
        folder = resolve_model(model)
        tokenizer = load_tokenizer(folder)
        chat = format_of_folder(folder, config.model.thinking, tokenizer)
        tokens = "|".join(re.escape(tokenizer.decode([token])) for token in chat.stops)
    return Bridge(RapoReward(config, chat), re.compile(rf"(?:\s*(?:{tokens}))+\s*\Z"))


def reward_func(queries: Sequence[str], prompts: Sequence[str], labels: Sequence[str]) -> dict[str, Any]:
    """Rewards [B], scores [B] (1 where safe) and logs of complete texts; raises JudgeError where a judge failed."""
    completions = []
    for query, prompt in zip(queries, prompts, strict=True):
        if not query.startswith(prompt):
            raise DataError("a query does not start with its prompt: the tokenizer does not decode what it encodes")
        completions.append(query[len(prompt) :])
    truncated = [_bridge().end.search(text) is None for text in completions]
    return _as_result(_judge(labels, completions, truncated))


class RapoAgent(AgentInstanceBase):  # type: ignore[misc]  # OpenRLHF is untyped
    """Agent of a single turn, which RAPO judges."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass

    async def step(self, state_dict: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """The reward of the turn just taken, which is also the last."""
        judged = await asyncio.to_thread(_judge, [state_dict["label"]], [state_dict["action_text"]], [False])
        return {**_as_result(judged), "environment_feedback": "", "done": True}


class AgentExecutor(MultiTurnAgentExecutor):  # type: ignore[misc]  # OpenRLHF is untyped
    """The class that OpenRLHF looks for in an agent file."""

    def __init__(self) -> None:
        super().__init__(RapoAgent)


def _judge(labels: Sequence[str], completions: Sequence[str], truncated: Sequence[bool]) -> list[Judged]:
    bridge = _bridge()
    texts = [bridge.end.sub("", text) for text in completions]
    judged = bridge.reward([_prompt(label) for label in labels], texts, truncated)
    for one in judged:
        if one.reward is None:
            raise JudgeError(f"a completion could not be judged ({one.verdict.status}: {one.verdict.detail})")
    return judged


def _prompt(label: str) -> Prompt:
    try:
        row = json.loads(label)
        turns, text = request_of(row, "request")
        return Prompt("openrlhf", text, bool(row["harmful"]), row.get("level"), "openrlhf", "train", turns=turns)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DataError(
            f"the label {label[:80]!r} is not what RAPO needs: write the data with rapo_ray.bridges.openrlhf"
        ) from None


def _as_result(judged: Sequence[Judged]) -> dict[str, Any]:
    return {
        "rewards": torch.tensor([one.reward for one in judged]),
        "scores": torch.tensor([float(not one.unsafe) for one in judged]),
        "extra_logs": {
            "rapo_risk": torch.tensor([one.verdict.risk for one in judged]),
            "rapo_general": torch.tensor([one.verdict.general for one in judged]),
        },
    }


def training_rows(config: RunConfig) -> list[dict[str, Any]]:
    """Prompts of `data.train` as rows for `--input_key input --label_key label --apply_chat_template`."""
    return [
        {
            "input": turns,
            "label": json.dumps({"request": cell_of(prompt), "harmful": prompt.harmful, "level": prompt.level}),
        }
        for turns, prompt in training_prompts(config)
    ]
