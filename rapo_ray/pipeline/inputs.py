"""The inputs of a run: all loaded and checked before anything starts, in a dry run too."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

from rapo_ray import console
from rapo_ray.config import RunConfig
from rapo_ray.data.contamination import Guard, Hit
from rapo_ray.data.quickstart_set import Demonstration
from rapo_ray.data.recipe import build_prompts, parse_recipe
from rapo_ray.data.rows import BadRow
from rapo_ray.data.sources import is_test
from rapo_ray.errors import ConfigError, DataError, ModelError
from rapo_ray.judging.http import check_judges
from rapo_ray.models.chat import ChatFormat
from rapo_ray.models.chat_template import describe, format_of_folder, judge_format
from rapo_ray.models.resolve import local_model
from rapo_ray.types import Prompt
from rapo_ray.warmup.demonstrations import read_demonstrations

ACCEPTED = "keep and accept contaminated figures"


@dataclass(frozen=True, slots=True)
class Inputs:
    """Prompts and demonstrations; empty where the run needs none."""

    train_P: list[Prompt]
    heldout_P: list[Prompt]
    synthesis_P: list[Prompt]  # for which the model writes its own demonstrations
    demonstrations: list[Demonstration]
    contaminated: list[Hit]  # training prompts and demonstrations that an evaluation prompt repeats
    bad_rows: list[BadRow] = field(default_factory=list)  # of the files
    guard: Guard = field(default_factory=lambda: Guard(()))  # what may not be trained on, generated prompts included


def load_inputs(config: RunConfig) -> Inputs:
    """Read every file that the config names, and say what was set aside; raises ConfigError or DataError."""
    warmup = config.warmup
    check_judges(config.judge)
    if config.evaluation.every or config.gates.bars():
        check_temperature(config)
    bad: list[BadRow] = []
    inputs = Inputs(
        load_prompts(config, "data.train", config.data.train, bad),
        load_prompts(config, "data.heldout", config.data.heldout, bad),
        load_prompts(config, "warmup.recipe", warmup.recipe or "", bad) if warmup.source == "synthesis" else [],
        read_demonstrations(warmup.path) if warmup.source == "demonstrations" else [],
        [],
        bad,
    )
    for setting, prompts in (
        ("data.train", inputs.train_P), ("data.heldout", inputs.heldout_P), ("warmup.recipe", inputs.synthesis_P)
    ):  # fmt: skip
        check_no_scripts(setting, prompts)
    refuse_tests(config, "data.train", inputs.train_P)
    refuse_tests(config, "warmup.recipe", inputs.synthesis_P)
    suites = inputs.heldout_P
    if config.data.evaluation is not None:
        suites = suites + load_prompts(config, "data.evaluation", config.data.evaluation, bad)
    guarded = _guarded(config, inputs, suites)
    _check_pairs(config, guarded.train_P)
    return guarded


def chat_format(config: RunConfig, base: Path) -> ChatFormat:
    """The chat format of a run's model, shown to the user; raises ModelError where it cannot be told or learned."""
    thinking, chat = config.model.thinking, format_of_folder(base, config.model.thinking)
    if thinking.open is not None and thinking.open.strip() != chat.open_mark:
        raise ModelError(
            f"{base}: model.thinking.open says {thinking.open!r}, but the model was trained with {chat.open_mark!r}: "
            "leave it out"
        )
    console.say(f"chat format: {describe(chat)}")
    if not chat.shown and config.warmup.source != "demonstrations":
        raise ModelError(
            f"{base}: nothing in its chat template shows how it thinks, and warmup.source={config.warmup.source} "
            "teaches it nothing: warm up with demonstrations, or set model.thinking.open and model.thinking.close"
        )
    return chat


def say_formats(config: RunConfig) -> None:
    """Show the chat formats of the model and of the vllm judges, as far as they are on this machine; fetches nothing.

    A machine that only plans runs has no transformers to read them with. Raises ModelError as `chat_format` does.
    """
    if find_spec("transformers") is None:
        console.say("chat formats: not read, for transformers is not installed here")
        return
    folder = local_model(config.model.path, config.model.revision)
    if folder is None:
        console.say(f"chat format: read once {config.model.path} is fetched")
    else:
        chat_format(config, folder)
    judges = {
        part: local_model(judge.model or "", judge.revision)
        for part, judge in config.judge.named().items()
        if judge.backend == "vllm"
    }
    check_judge_formats(config, {part: folder for part, folder in judges.items() if folder is not None})


def check_judge_formats(config: RunConfig, folders: dict[str, Path]) -> None:
    """Show the chat formats of vllm judges, by part; raises ModelError where one cannot be told.

    A guard has a form of its own, which its family says.
    """
    for part, folder in folders.items():
        judge = config.judge.named()[part]
        if judge.guard is None:
            console.say(f"chat format of judge.{part}: {describe(judge_format(judge, part, folder))}")


def check_temperature(config: RunConfig) -> None:
    """Raise ConfigError where models on engines of ours are evaluated without a temperature."""
    if config.evaluation.temperature is None:
        raise ConfigError("evaluation.temperature=null is for endpoints alone, which have a default: set a number")


def check_no_scripts(setting: str, prompts: Sequence[Prompt]) -> None:
    """Raise DataError where a setting's prompts are answered in one turn and some of them are scripts."""
    scripts = [prompt.id for prompt in prompts if prompt.is_script]
    if scripts:
        raise DataError(
            f"{setting}: {len(scripts)} prompts are scripts, first {scripts[0]}, whose earlier turns the model has yet "
            "to answer: they are for evaluation.suites; give the answers between them to use them as dialogues"
        )


def refuse_tests(config: RunConfig, setting: str, prompts: Iterable[Prompt]) -> None:
    """Raise DataError where prompts to train on are of a published set's test split, unless that is accepted."""
    tests = (prompt for prompt in prompts if is_test(config.data.sources.get(prompt.source), prompt.split))
    prompt = next(tests, None)
    if prompt is not None and config.data.contamination == "refuse":
        raise DataError(
            f"{setting}: {prompt.source!r} is a test set ({config.data.sources[prompt.source].kind}, split "
            f"{prompt.split!r}), which figures are measured on: train on another, name it in data.evaluation, or set "
            f"data.contamination={ACCEPTED!r}"
        )


def _guarded(config: RunConfig, inputs: Inputs, suites: list[Prompt]) -> Inputs:
    """The inputs without what a suite holds, or with it where the config says so; DataError where nothing is left."""
    guard = Guard(suites)
    train_P, train_hits = guard.split(inputs.train_P)
    synthesis_P, synthesis_hits = guard.split(inputs.synthesis_P)
    _, demonstration_hits = guard.split([demonstration.prompt for demonstration in inputs.demonstrations])
    hits = [*train_hits, *synthesis_hits, *demonstration_hits]
    if config.data.contamination == "refuse":
        inputs = replace(inputs, guard=guard)
    if not hits:
        return inputs
    first = f"first: {hits[0].prompt.id} is {hits[0].match} with {hits[0].suite.id}"
    if config.data.contamination != "refuse":
        console.say(f"contamination: {len(hits)} training prompts that a suite holds are KEPT, as configured ({first})")
        return replace(inputs, contaminated=hits)
    console.say(f"contamination: {len(hits)} training prompts that a suite holds are left out ({first})")
    refused = {hit.prompt.id for hit in demonstration_hits}
    demonstrations = [each for each in inputs.demonstrations if each.prompt.id not in refused]
    for setting, before, after in (
        ("data.train", inputs.train_P, train_P),
        ("warmup.recipe", inputs.synthesis_P, synthesis_P),
        ("the demonstrations", inputs.demonstrations, demonstrations),
    ):
        if before and not after:
            raise DataError(
                f"{setting}: every prompt is in an evaluation suite ({first}); train on other prompts, or set "
                f"data.contamination={ACCEPTED!r}"
            )
    return replace(inputs, train_P=train_P, synthesis_P=synthesis_P, demonstrations=demonstrations, contaminated=hits)


def _check_pairs(config: RunConfig, train_P: list[Prompt]) -> None:
    """Raise DataError where an attack would have no harmful prompt, or no benign one for its twin."""
    if config.data.attack is not None and len({prompt.harmful for prompt in train_P}) < 2:
        raise DataError(
            f"data.train={config.data.train}: data.attack needs harmful and benign prompts, for each attack has a "
            "benign twin; add a source of the other kind, or leave out data.attack"
        )


def load_prompts(config: RunConfig, setting: str, recipe: str, rows: list[BadRow] | None = None) -> list[Prompt]:
    """Load the prompts of a setting's recipe, say what was set aside and add it to `rows`.

    Raises ConfigError or DataError.
    """
    data = build_prompts(parse_recipe(recipe), config.data.sources, config.seed, config.data.max_bad_share)
    if bad := data.quarantined:
        console.say(f"{setting}: {len(bad)} rows set aside, first: {bad[0].source} row {bad[0].row}: {bad[0].reason}")
        if rows is not None:
            rows.extend(bad)
    return list(data.prompts)
