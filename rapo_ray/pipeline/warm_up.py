"""The warm-up stage of a run: demonstrations, tokens, Ray Train, and a folder with the model."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from rapo_ray import console
from rapo_ray.config import RunConfig
from rapo_ray.data.quickstart_set import Demonstration
from rapo_ray.models.chat import ChatFormat
from rapo_ray.models.chat_template import load_tokenizer
from rapo_ray.models.published import write_chat
from rapo_ray.pipeline.inputs import Inputs
from rapo_ray.storage.json_records import from_json
from rapo_ray.storage.records import WarmupStep
from rapo_ray.storage.run_folder import RunFolder
from rapo_ray.types import Prompt
from rapo_ray.warmup.demonstrations import read_demonstrations, tokenize, write_demonstrations
from rapo_ray.warmup.sft import plan_epochs
from rapo_ray.warmup.synthesis import synthesise


def warm_up(
    config: RunConfig,
    inputs: Inputs,
    base: Path,
    chat: ChatFormat,
    folder: RunFolder,
    rollouts: Any,
    free_cards: Callable[[], None],
) -> None:
    """Fill `folder.sft`; `free_cards` is called before it trains. Raises DataError or TrainingError."""
    from actors.sft import SftJob, train_sft
    from actors.spawn import threads

    demonstrations = inputs.demonstrations or _synthesised(config, inputs.synthesis_P, chat, folder, rollouts)
    sequences = tokenize(demonstrations, load_tokenizer(base), config.model.system_prompt, chat)
    shares = plan_epochs(sequences, config.warmup, config.policy, config.seed)
    console.say(f"warm-up: {len(sequences)} demonstrations, {config.warmup.epochs} epoch(s), {len(shares[0])} steps")
    temporary = folder.clear_partial(folder.sft)
    work = folder.clear_partial(folder.warmup)
    log = folder.warmup_log
    log.unlink(missing_ok=True)
    job = SftJob(base, shares, threads(config, config.policy.ranks), log, work, temporary)
    free_cards()
    with console.follow_log("warm-up", log, len(shares[0]), lambda line: from_json(WarmupStep, line).loss):
        loss = train_sft(config, job)
    write_chat(temporary, replace(chat, shown=True))  # the model has been taught its marks
    temporary.rename(folder.sft)
    console.say(f"warm-up: last loss {loss:.3f}")


def _synthesised(
    config: RunConfig, prompts: list[Prompt], chat: ChatFormat, folder: RunFolder, rollouts: Any
) -> list[Demonstration]:
    path = folder.demonstrations
    if path.exists():
        return read_demonstrations(path)
    demonstrations, dropped = synthesise(
        prompts, rollouts.write, config.model.system_prompt, config.warmup.min_trace_chars, chat
    )
    console.say(f"synthesis: {len(demonstrations)} of {len(prompts)} prompts gave a demonstration; dropped: {dropped}")
    write_demonstrations(demonstrations, path)
    return demonstrations
