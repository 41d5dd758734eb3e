"""What a run reads: all of it is loaded and checked before anything starts, in a dry run too."""

from dataclasses import dataclass

from rapo_ray import display
from rapo_ray.config import RunConfig
from rapo_ray.data.quickstart_set import Demonstration
from rapo_ray.data.recipe import build_prompts, parse_recipe
from rapo_ray.judging.http import check_url, read_token
from rapo_ray.types import Prompt
from rapo_ray.warmup.demonstrations import read_demonstrations


@dataclass(frozen=True, slots=True)
class Inputs:
    """Prompts and demonstrations; empty where the run needs none."""

    train_P: list[Prompt]
    heldout_P: list[Prompt]
    synthesis_P: list[Prompt]  # for which the model writes its own demonstrations
    demonstrations: list[Demonstration]


def load_inputs(config: RunConfig) -> Inputs:
    """Read every file that the config names, and say what was set aside; raises ConfigError or DataError."""
    warmup = config.warmup
    for judge in config.judge.named().values():
        if judge.url is not None:
            check_url(judge.url, judge.allow_private)
            read_token(judge.token_file)
    return Inputs(
        _prompts(config, "data.train", config.data.train),
        _prompts(config, "data.heldout", config.data.heldout),
        _prompts(config, "warmup.recipe", warmup.recipe or "") if warmup.source == "synthesis" else [],
        read_demonstrations(warmup.path) if warmup.source == "demonstrations" else [],
    )


def _prompts(config: RunConfig, setting: str, recipe: str) -> list[Prompt]:
    data = build_prompts(parse_recipe(recipe), config.data.sources, config.seed, config.data.max_bad_share)
    if bad := data.quarantined:
        display.say(f"{setting}: {len(bad)} rows set aside, first: {bad[0].source} row {bad[0].row}: {bad[0].reason}")
    return list(data.prompts)
