"""Training prompts of a recipe as conversations for other trainers."""

from rapo_ray.config import RunConfig
from rapo_ray.data.recipe import build_prompts, parse_recipe
from rapo_ray.types import Prompt

Conversation = list[dict[str, str]]


def conversation(system_prompt: str | None, text: str) -> Conversation:
    """The system turn, if any, and the user's turn."""
    system = [] if system_prompt is None else [{"role": "system", "content": system_prompt}]
    return [*system, {"role": "user", "content": text}]


def training_prompts(config: RunConfig) -> list[tuple[Conversation, Prompt]]:
    """Every prompt of `data.train`; raises ConfigError or DataError."""
    data = config.data
    prompts = build_prompts(parse_recipe(data.train), data.sources, config.seed, data.max_bad_share).prompts
    return [(conversation(config.model.system_prompt, prompt.text), prompt) for prompt in prompts]
