"""Training prompts of a recipe as conversations for other trainers."""

from rapo_ray.config import RunConfig
from rapo_ray.data.recipe import build_prompts, parse_recipe
from rapo_ray.models.chat import Conversation, conversation
from rapo_ray.types import Prompt


def training_prompts(config: RunConfig) -> list[tuple[Conversation, Prompt]]:
    """Every prompt of `data.train`, a dialogue with its earlier turns; raises ConfigError or DataError."""
    data = config.data
    prompts = build_prompts(parse_recipe(data.train), data.sources, config.seed, data.max_bad_share).prompts
    return [(conversation(config.model.system_prompt, prompt.text, prompt.turns), prompt) for prompt in prompts]
