"""Recipes and overrides: loading, round trips and hashes, and one clear line for each mistake."""

import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from rapo_ray.config import RunConfig
from rapo_ray.config.base import cpu_dtype
from rapo_ray.config.judge import JudgeBackendConfig
from rapo_ray.config.load import MAX_RECIPE_BYTES, config_hash, load_config, shipped_recipes, to_yaml
from rapo_ray.config.serving import ServeConfig
from rapo_ray.config.sources import SourceConfig
from rapo_ray.errors import ConfigError

pytestmark = pytest.mark.unit

UNHASHED = (
    "out", "limits", "cluster", "checkpoint", "evaluation", "gates", "alarms", "serve", "sinks", "rollout.enforce_eager"
)  # fmt: skip


def write(folder: Path, text: str | bytes) -> str:
    path = folder / "mine.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


def refusal(recipe: str, *overrides: str) -> str:
    """The one-line error message of a mistake."""
    with pytest.raises(ConfigError) as caught:
        load_config(recipe, overrides)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_a_shipped_recipe_loads_and_round_trips(name: str, tmp_path: Path) -> None:
    config = load_config(name)
    assert load_config(write(tmp_path, to_yaml(config))) == config


def test_there_is_a_quickstart() -> None:
    assert "quickstart" in shipped_recipes()


def test_everything_set_round_trips(tmp_path: Path) -> None:
    config = load_config(
        "quickstart",
        [
            "out=/data/runs ü",
            "judge.general={backend: vllm, model: org/judge, revision: abc}",
            "data.sources={mine: {kind: file, path: a b.csv, text_column: q, harmful: true}}",
            "policy.importance_correction=off",
            "policy.adam_betas=[0.8, 0.99]",
            "model.system_prompt='yes: # not a comment'",
            "limits.start=1e-3",
        ],
    )
    again = load_config(write(tmp_path, to_yaml(config)))
    assert again == config
    assert config_hash(again) == config_hash(config)


def test_defaults_are_below_the_file_and_the_file_below_overrides(tmp_path: Path) -> None:
    recipe = write(tmp_path, "rounds: 7\nseed: 3\nrollout: {engines: 2, top_p: 1.0}\n")
    config = load_config(recipe, ["rounds=9", "rollout.engines=4", "rollout.engines=5"])
    assert (config.rounds, config.seed, config.rollout.engines) == (9, 3, 5)
    assert config.rollout.max_prompt_tokens == RunConfig().rollout.max_prompt_tokens


def test_an_override_can_open_a_section_that_the_file_leaves_out(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "seed: 3\n"), ["judge.general.backend=rules", "judge.general.actors=2"])
    assert config.judge.general == JudgeBackendConfig(backend="rules", actors=2, dtype="bfloat16")


def test_an_override_can_open_a_section_that_a_dumped_config_has_as_null(tmp_path: Path) -> None:
    dumped = to_yaml(load_config("quickstart"))
    assert "general: null" in dumped
    config = load_config(write(tmp_path, dumped), ["judge.general.backend=rules", "judge.general.actors=2"])
    assert config.judge.general == JudgeBackendConfig(backend="rules", actors=2, dtype="bfloat16")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("policy: {ranks: 2}\nseed: 1\npolicy: {zero_stage: 3}\n", "key `policy` is in line 1 and again in line 3"),
        ("seed: 1\npolicy:\n  ranks: 2\n  ranks: 2\n", "key `ranks` is in line 3 and again in line 4"),
        ("seed: 1\n'seed': 2\n", "key `seed` is in line 1 and again in line 2"),
        ("rollout: {engines: 1, engines: 2}\n", "key `engines` is in line 1 and again in line 1"),
    ],
)
def test_a_key_that_is_there_twice_is_refused(text: str, problem: str, tmp_path: Path) -> None:
    recipe = write(tmp_path, text)
    assert refusal(recipe) == f"{recipe}: not valid YAML: {problem}"


def test_a_yaml_merge_is_no_key_twice(tmp_path: Path) -> None:
    text = "judge: {risk: &one {actors: 2, timeout: 9}, general: {<<: *one, actors: 3}}\n"
    judge = load_config(write(tmp_path, text)).judge
    assert judge.general == JudgeBackendConfig(actors=3, timeout=9, dtype="bfloat16")


@pytest.mark.parametrize("key", ["seed", "sede", "rollout"])
def test_a_long_value_is_cut_in_the_message(key: str, tmp_path: Path) -> None:
    long = "x" * 5000
    message = refusal(write(tmp_path, f"{key}: {long}\n"))
    assert "'" + "x" * 116 + "..." in message
    message += refusal("quickstart", f"{key}={long}")
    assert "x" * 121 not in message


@pytest.mark.parametrize("word", ["off", "'off'", "false"])
def test_the_yaml_word_off_is_taken_as_off(word: str) -> None:
    assert load_config("quickstart", [f"policy.importance_correction={word}"]).policy.importance_correction == "off"


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (
            ["evaluation.attacks=[none, role_play+b64]"],
            [
                "override `evaluation.attacks=[none, role_play+b64]`",
                "`evaluation.attacks.1` = 'role_play+b64'",
                "'b64'",
                "no family",
            ],
        ),
        (["polcy.lr=1"], ["override `polcy.lr=1`", "unknown key `polcy`", "1"]),
        (["policy.lr=1e-5"], ["override `policy.lr=1e-5`", "unknown key `policy.lr`", "1e-5"]),
        (["1=2"], ["override `1=2`", "unknown key `1`"]),
        (["rollout.engines=two"], ["override `rollout.engines=two`", "`rollout.engines` = 'two'", "integer"]),
        (["rollout={engines: 0}"], ["override `rollout={engines: 0}`", "`rollout.engines` = 0", "greater than"]),
        (["rollout.engines=1", "rollout.engines=0"], ["override `rollout.engines=0`"]),
        (["policy.adam_betas=[0.9, x]"], ["override `policy.adam_betas=[0.9, x]`", "`policy.adam_betas.1` = 'x'"]),
        (["policy.zero_stage=4"], ["override `policy.zero_stage=4`", "`policy.zero_stage` = 4"]),
        (["policy.adam_betas=[0.9, 1.0]"], ["`policy.adam_betas.1` = 1.0", "less than 1"]),
        (["policy.adam_betas=[-0.1, 0.9]"], ["`policy.adam_betas.0` = -0.1", "greater than or equal to 0"]),
        (["policy.importance_bounds=[2, 0.5]"], ["`policy.importance_bounds` = [2, 0.5]", "below the high"]),
        (["policy.importance_bounds=[1, 1]"], ["`policy.importance_bounds` = [1, 1]", "below the high"]),
        (["policy.importance_bounds=[-1, 2]"], ["`policy.importance_bounds` = [-1, 2]", "at least 0"]),
        (["rounds=yes"], ["override `rounds=yes`", "`rounds` = True", "takes no true or false"]),
        (["policy.zero_stage=true"], ["`policy.zero_stage` = True", "takes no true or false"]),
        (["policy.kl_coef=off"], ["`policy.kl_coef` = False", "takes no true or false"]),
        (["policy.adam_betas=[no, 0.9]"], ["`policy.adam_betas` = [False, 0.9]", "takes no true or false"]),
        (["policy.importance_correction=on"], ["`policy.importance_correction` = True", "takes no true or false"]),
        (["rollout={engines: 1, engines: 2}"], ["override `rollout={engines: 1, engines: 2}`", "not valid YAML"]),
        (["limits.start=.inf"], ["override `limits.start=.inf`", "finite"]),
        (["policy.learning_rate=.nan"], ["override `policy.learning_rate=.nan`", "finite"]),
        (["name=../../etc"], ["override `name=../../etc`", "`name` = '../../etc'"]),
        (["rollout"], ["override `rollout`", "key=value"]),
        (["=3"], ["override `=3`", "key=value"]),
        (["name=[1"], ["override `name=[1`", "not valid YAML"]),
        (["name=2024-13-45"], ["override `name=2024-13-45`", "not valid YAML"]),
        (["name=" + "[" * 700], ["not valid YAML"]),
        (["name=!!python/object/apply:os.system [exit]"], ["not valid YAML"]),
        (["seed.x=1"], ["override `seed.x=1`"]),
        (["name=q", "name.x=1"], ["override `name.x=1`", "`name` is a value, not a section"]),
        (["rollout.engines=a\nb"], ["rollout.engines"]),
    ],
)
def test_a_bad_override_names_itself_the_key_and_the_value(overrides: list[str], parts: list[str]) -> None:
    message = refusal("quickstart", *overrides)
    for part in parts:
        assert part in message


def test_an_override_below_a_value_of_the_file_is_refused(tmp_path: Path) -> None:
    assert "`seed` is a value, not a section" in refusal(write(tmp_path, "seed: 3\n"), "seed.x=1")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("polcy: {lr: 1}", ["unknown key `polcy`", "{'lr': 1}"]),
        ("rollout: {engines: two}", ["`rollout.engines` = 'two'"]),
        ("rollout: 3", ["`rollout` = 3"]),
        ("rollout: {engines: 0}\nseed: -1", ["`rollout.engines` = 0", "`seed` = -1"]),
        ("a: [1", ["not valid YAML"]),
        ("a: !!python/object/apply:os.system [exit]", ["not valid YAML", "python/object/apply"]),
        ("name: 2024-13-45", ["not valid YAML"]),
        ("[" * 700, ["not valid YAML"]),
        (b"name: \xff\xfe", ["not valid YAML"]),
        ("- a\n- b", ["is a mapping", "list"]),
        ("", ["is a mapping", "NoneType"]),
        ("a: " + "x" * MAX_RECIPE_BYTES, ["is no recipe", str(MAX_RECIPE_BYTES)]),
        ("data: {sources: {x: {kind: file}}}", ["data.sources.x", "needs a path"]),
        ("data: {sources: {x: {kind: quickstart, path: a}}}", ["data.sources.x", "remove its path a"]),
        ("data: {sources: {x: {kind: star1, path: a, harmful: true}}}", ["data.sources.x", "own columns"]),
        ("data: {sources: {x: {kind: csv, path: a}}}", ["`data.sources.x.kind` = 'csv'"]),
    ],
)
def test_a_bad_file_is_named_with_key_and_value(text: str | bytes, parts: list[str], tmp_path: Path) -> None:
    recipe = write(tmp_path, text)
    message = refusal(recipe)
    for part in [recipe, *parts]:
        assert part in message


def test_python_objects_in_a_recipe_are_not_made(tmp_path: Path) -> None:
    target = tmp_path / "made"
    for call in (f"os.mkdir [{target}]", f"pathlib.Path.mkdir [{target}]"):
        refusal(write(tmp_path, f"name: !!python/object/apply:{call}"))
        refusal("quickstart", f"name=!!python/object/apply:{call}")
    assert not target.exists()


@pytest.mark.parametrize("recipe", ["no-such-recipe", "/no/such/file.yaml", ".", ""])
def test_a_missing_recipe_names_those_there_are(recipe: str) -> None:
    message = refusal(recipe)
    assert f"`{recipe}`" in message
    assert "quickstart" in message


CORRECTED = ("policy.old_logprobs=recompute", "policy.importance_correction=token")
IMPOSSIBLE = [
    (
        ["gates.trace_follows=0.5", "evaluation.trace_swaps=0"],
        ["override `gates.trace_follows=0.5`", "override `evaluation.trace_swaps=0`", "has nothing to measure with"],
    ),
    (["warmup.source=synthesis"], ["override `warmup.source=synthesis`", "needs warmup.recipe"]),
    (["judge.risk.backend=vllm"], ["override `judge.risk.backend=vllm`", "`judge.risk`", "needs a model"]),
    (["judge.general={backend: vllm}"], ["override `judge.general={backend: vllm}`", "needs a model"]),
    (
        [*CORRECTED, "rollout.top_p=0.9"],
        ["override `rollout.top_p=0.9`", "rollout.top_p=0.9 biases", "(it is token)"],
    ),
    (
        ["policy.old_logprobs=rollout", "policy.importance_correction=sequence"],
        ["override `policy.old_logprobs=rollout`", "override `policy.importance_correction=sequence`", "sequence)"],
    ),
    (
        ["rollout.top_p=0.9", "out=elsewhere"],  # `out` is no part of what the message names, though of its letters
        ["override `rollout.top_p=0.9`: ", "rollout needs rollout.top_p=1 (it is 0.9)"],
    ),
    (
        ["policy.steps_per_round=99", "out=elsewhere"],
        ["override `policy.steps_per_round=99`: ", "policy.steps_per_round=99 is more than prompts_per_round="],
    ),
    (["rollout.tensor_parallel=2"], ["override `rollout.tensor_parallel=2`", "needs cluster.device=gpu"]),
    (
        ["judge.risk={backend: vllm, model: m, tensor_parallel: 2}"],
        ["judge.risk.tensor_parallel=2 needs cluster.device=gpu"],
    ),
    (
        ["judge.general={backend: vllm, model: m, tensor_parallel: 4}"],
        ["judge.general.tensor_parallel=4 needs cluster.device=gpu"],
    ),
    (
        ["judge.risk={backend: vllm, model: m, timeout: 60}", "limits.judge=60"],
        ["judge.risk.timeout=60 must be below limits.judge=60", "a slow reply is a failed verdict"],
    ),
]


@pytest.mark.parametrize(("overrides", "parts"), IMPOSSIBLE)
def test_an_impossible_combination_is_refused(overrides: list[str], parts: list[str]) -> None:
    message = refusal("quickstart", *overrides)
    for part in parts:
        assert part in message
    assert "elsewhere" not in message


@pytest.mark.parametrize(
    "overrides",
    [
        ["warmup.source=synthesis", "warmup.recipe=quickstart:4"],
        ["judge.risk.backend=vllm", "judge.risk.model=org/judge"],
        [*CORRECTED],
        ["policy.old_logprobs=recompute", "rollout.top_p=0.9"],
        ["prompts_per_round=16", "policy.steps_per_round=16"],
        ["policy.importance_bounds=[0, 0.1]"],
        ["policy.adam_betas=[0, 0.999]"],
        ["policy.learning_rate=1e-5", "rounds=3"],
        ["policy.gradient_checkpointing=yes"],
        ["rollout.tensor_parallel=2", "cluster.device=gpu"],
    ],
)
def test_the_possible_neighbour_is_obeyed(overrides: list[str]) -> None:
    load_config("quickstart", overrides)


def test_an_impossible_combination_in_a_file_names_the_file(tmp_path: Path) -> None:
    recipe = write(tmp_path, "prompts_per_round: 2\npolicy: {steps_per_round: 3}\n")
    assert refusal(recipe, "seed=4").startswith(f"{recipe}: policy.steps_per_round=3 ")


def test_a_loaded_config_does_not_change() -> None:
    config = load_config("quickstart")
    with pytest.raises(ValueError, match="frozen"):
        config.rollout.engines = 3  # type: ignore[misc]


def test_every_section_and_setting_is_documented() -> None:
    undocumented = [
        f"{model.__name__}.{name}"
        for model in _models(RunConfig)
        for name, field in model.model_fields.items()
        if not field.description and not (model is RunConfig and issubclass(_section(field.annotation), BaseModel))
    ]
    assert undocumented == []


def test_the_hash_sees_everything_that_shapes_results() -> None:
    config = load_config("quickstart")
    unseen = [path for path, other in _each_change(config) if config_hash(other) == config_hash(config)]
    unhashed = [path for path, _ in _each_change(config) if path in UNHASHED or path.partition(".")[0] in UNHASHED]
    assert unseen == unhashed
    assert {path if path in UNHASHED else path.partition(".")[0] for path in unseen} == set(UNHASHED)


def test_the_hash_is_a_digest_of_content_not_of_origin(tmp_path: Path) -> None:
    config = load_config("quickstart", ["seed=5"])
    digest = config_hash(config)
    assert re.fullmatch(r"[0-9a-f]{64}", digest)
    assert config_hash(load_config(write(tmp_path, to_yaml(config)))) == digest


def _section(annotation: Any) -> type:
    return annotation if isinstance(annotation, type) else object


def _models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        if issubclass(_section(field.annotation), BaseModel):
            yield from _models(_section(field.annotation))


def _each_change(model: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """A copy of the model for each of its leaves, with that leaf changed."""
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            for path, other in _each_change(value, f"{prefix}{name}."):
                yield path, model.model_copy(update={name: other})
        else:
            yield f"{prefix}{name}", model.model_copy(update={name: _other(name, value)})


HTTP = ["judge.risk.backend=http", "judge.risk.model=m", "judge.risk.url=https://judge.example/v1"]


@pytest.mark.parametrize(
    ("override", "why"),
    [
        ("judge.risk.request.extra_body.model=n", "`model` is no extra field: every request has its own"),
        ("judge.risk.request.extra_body={stream: true}", "`stream` is no extra field"),
        ("judge.risk.request.extra_body.n=2", "`n` is no extra field"),
        ("judge.risk.request.extra_body.max_tokens=9", "`max_tokens` is no extra field: choose its name"),
        ("judge.risk.request.extra_body.temperature=1", "set `request.temperature`"),
        ("judge.risk.request.extra_body.response_format={type: text}", "choose the form with the judge's `reply`"),
        ("judge.risk.request.extra_body.chat_template_kwargs={}", "set the judge's `template_kwargs`"),
        ("evaluation.request.extra_body.temperature=1", "set `evaluation.temperature`"),
        ("evaluation.request.extra_body.seed=1", "leave it out with `seed: false`"),
        ("judge.risk.request.extra_body.since=2026-01-02", "JSON"),
        ("judge.risk.template_kwargs.level=.nan", "finite number"),
        ("judge.risk.request.limit_field=limit", "'max_tokens' or 'max_completion_tokens'"),
        ("judge.risk.max_thinking_tokens=-1", "greater than or equal to 0"),
    ],
)
def test_a_request_has_each_field_once_and_in_json(override: str, why: str) -> None:
    message = refusal("quickstart", *HTTP, override)
    assert f"override `{override}`" in message and why in message


def test_further_fields_are_taken_as_they_are(tmp_path: Path) -> None:
    extra = "{effort: low, seed: 7, thinking: {budget: 9, whole: true}, stop: [a, null]}"
    config = load_config(
        "quickstart",
        [
            *HTTP,
            f"judge.risk.request.extra_body={extra}",
            "judge.risk.request.temperature=null",
            "judge.risk.template_kwargs.enable_thinking=false",
            "evaluation.request.extra_body.chat_template_kwargs.enable_thinking=false",
            "evaluation.temperature=null",
        ],
    )
    fields = {"effort": "low", "seed": 7, "thinking": {"budget": 9, "whole": True}, "stop": ["a", None]}
    assert config.judge.risk.request.extra_body == fields
    assert config.judge.risk.template_kwargs == {"enable_thinking": False}
    assert config.evaluation.request.extra_body == {"chat_template_kwargs": {"enable_thinking": False}}
    assert (config.judge.risk.request.temperature, config.evaluation.temperature) == (None, None)
    assert load_config(write(tmp_path, to_yaml(config))) == config


def _other(name: str, value: Any) -> Any:
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case str():
            return f"{value}x"
        case Path():
            return value / "x"
        case tuple():
            return (*value[:-1], _other(name, value[-1]))
        case dict():
            return {"x": SourceConfig(kind="quickstart")}
        case None:
            return JudgeBackendConfig() if name == "general" else "x"
    raise AssertionError(f"{name}: no other value for {value!r}")


@pytest.fixture(autouse=True)
def _quiet_about_changed_types() -> Iterator[None]:
    with warnings.catch_warnings():  # model_copy does not validate: a Literal then holds another word
        warnings.filterwarnings("ignore", message="Pydantic serializer warnings", category=UserWarning)
        yield


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("model.thinking.open=[THINK]", "quote it"),
        ("model.thinking.open=' '", "white space alone"),
        ("model.thinking.open='<a>'", "go together"),
        ("model.thinking={open: '---', close: ' ---'}", "are the same"),
        ("model.thinking.template_kwargs={tokenize: true}", "`tokenize` is no argument to choose"),
        ("judge.risk.template_kwargs={add_generation_prompt: false}", "`add_generation_prompt` is no argument"),
        ("judge.risk={backend: vllm, model: m, max_thinking_tokens: 5000}", "no room for a question in max_model_len"),
    ],
)
def test_a_chat_format_that_cannot_be_is_one_line(override: str, line: str) -> None:
    assert line in refusal("quickstart", override)


@pytest.mark.parametrize(("device", "dtype"), [("cpu", cpu_dtype()), ("gpu", "bfloat16")])
def test_the_data_type_fits_the_device_unless_one_is_named(device: str, dtype: str) -> None:
    for given in ({}, {"dtype": "auto"}):
        tree = {
            "cluster": {"device": device}, "rollout": given, "policy": given,
            "judge": {"risk": given, "general": {"backend": "rules", **given}},
        }  # fmt: skip
        config = RunConfig.model_validate(tree)
        assert config.judge.general is not None and config.judge.second is None
        parts = (config.rollout, config.policy, config.judge.risk, config.judge.general)
        assert [part.dtype for part in parts] == [dtype] * 4
        serving = ServeConfig.model_validate({"model": "a", "api_keys": "b", "device": device, **given})
        assert serving.dtype == dtype
    bare = RunConfig.model_validate({"cluster": {"device": device}})
    assert (bare.rollout.dtype, bare.policy.dtype, bare.judge.risk.dtype) == (dtype,) * 3
    named = RunConfig.model_validate({"cluster": {"device": device}, "rollout": {"dtype": "float32"}})
    assert named.rollout.dtype == "float32"
    assert RunConfig.model_validate(named.model_dump(mode="json")) == named
