"""Settings of attacks in the rounds: each impossible one is one line; the recipe is the quickstart's but for them."""

import json
from pathlib import Path

import pytest

from rapo_ray.attacks.split import ONE_TURN, split_families
from rapo_ray.config.load import load_config
from rapo_ray.errors import ConfigError, DataError
from rapo_ray.pipeline.inputs import load_inputs

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.attack={}"], "`data.attack.share`: Field required"),
        (["data.attack.share=0"], "greater than 0"),
        (["data.attack.share=0.01"], "no whole pair of an attack and its benign twin: set it to at least 0.0833333"),
        (["data.attack.share=1", "prompts_per_round=1", "policy.steps_per_round=1"], "needs prompts_per_round=2"),
        (["data.attack={share: 0.5, attacker: oracle}"], "`data.attack.attacker` = 'oracle'"),
        (["data.attack={share: 0.5, families: []}"], "leaves no family to attack with"),
        (["data.attack={share: 0.5, families: [charm]}"], "'charm', which is no family of one turn: take"),
        (
            ["data.attack={share: 0.5, families: [short_escalation]}"],
            "'short_escalation', which is no family of one turn",
        ),
        (["data.attack={share: 0.5, families: [leet, leet]}"], "names a family twice"),
        (["data.attack={share: 0.5, families: [thought]}"], "'thought', which data.heldout_families holds out"),
        (["data.attack={share: 0.5, families: [leet], max_k: 2}"], "max_k=2 is more than the 1 families"),
        (["data.attack.share=0.5", "data.heldout_families=[charm]"], "'charm', no family and no mechanism"),
        (["data.attack.share=0.5", "gates.asr=0.1"], "reads no attack of families that are never trained on"),
        (
            ["data.attack.share=0.5", "gates.asr=0.1", "evaluation.attacks=[none,leet,thought+leet]"],
            "reads no attack of families that are never trained on",
        ),
        (["credit.over_refusal_bound=0.2", "credit.parts=risk"], "weights G, which credit.parts=risk leaves out"),
        (["credit.over_refusal_bound=0.2", "policy.objective=dpo"], "weights advantages, and policy.objective=dpo"),
        (["credit.over_refusal_bound=1"], "less than 1"),
    ],
)
def test_nonsense_is_refused_in_one_line(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config("quickstart", overrides)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("attacks", ["[thought]", "[none,leet,what_if+thought]"])
def test_a_gate_that_reads_families_that_are_never_trained_is_taken(attacks: str) -> None:
    load_config("quickstart", ["data.attack.share=0.5", "gates.asr=0.1", f"evaluation.attacks={attacks}"])


@pytest.mark.parametrize(("prompts", "share", "pairs"), [(24, 0.0833333, 1), (24, 0.5, 6), (24, 1, 12), (7, 0.99, 3)])
def test_whole_pairs_of_a_round(prompts: int, share: float, pairs: int) -> None:
    config = load_config("quickstart", [f"prompts_per_round={prompts}", f"data.attack.share={share}"])
    assert config.attacked_pairs == pairs


def test_families_are_all_that_are_not_held_out_unless_they_are_named() -> None:
    assert load_config("quickstart").data.trained_families == ()
    attacked = load_config("quickstart", ["data.attack.share=0.5"])
    assert attacked.data.trained_families == split_families().trained
    everything = load_config("quickstart", ["data.attack.share=0.5", "data.heldout_families=[]"])
    assert set(everything.data.trained_families) == set(ONE_TURN)
    named = load_config("quickstart", ["data.attack={share: 0.5, families: [leet, morse]}"])
    assert named.data.trained_families == ("leet", "morse")


def test_attacks_need_both_kinds_of_prompts(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps({"text": f"Harmful request number {n}."}) + "\n" for n in range(3)))
    source = f"{{kind: file, path: {path}, harmful: true}}"
    one_kind = [f"data.sources.mine={source}", "data.train=mine:all", "data.attack.share=0.5"]
    with pytest.raises(DataError, match=r"data\.train=mine:all: data\.attack needs harmful and benign prompts"):
        load_inputs(load_config("quickstart", one_kind))
    load_inputs(load_config("quickstart", [*one_kind, "data.train=mine:all,quickstart:9"]))


def test_the_guard_of_a_run_knows_its_suites() -> None:
    inputs = load_inputs(load_config("quickstart", ["data.attack.share=0.5"]))
    assert all(inputs.guard.find(prompt) for prompt in inputs.heldout_P)
    assert not any(inputs.guard.find(prompt) for prompt in inputs.train_P)
    accepted = "data.contamination=keep and accept contaminated figures"
    inputs = load_inputs(load_config("quickstart", ["data.attack.share=0.5", accepted]))
    assert not any(inputs.guard.find(prompt) for prompt in inputs.heldout_P)


def test_the_attacked_recipe_is_the_quickstart_with_attacks_from_its_warm_up() -> None:
    quickstart = load_config("quickstart", ["rollout.max_prompt_tokens=288"])
    attacked = load_config("quickstart-attacked")
    changed = {name for name in type(attacked).model_fields if getattr(attacked, name) != getattr(quickstart, name)}
    assert changed == {"name", "model", "data", "warmup", "credit"}
    assert attacked.data.model_copy(update={"attack": None}) == quickstart.data
    assert attacked.credit.model_copy(update={"over_refusal_bound": None}) == quickstart.credit
    assert str(attacked.model.path) == str(quickstart.folder / "sft")
