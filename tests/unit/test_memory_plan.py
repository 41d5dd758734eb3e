"""The memory plan of GPUs: figures by hand, recipes that fit, and a refusal that says what would fit."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from actors.memory_plan import (
    GIB,
    RESERVE,
    card_memory,
    check_memory,
    fits,
    host_memory,
    model_shapes,
    plan_memory,
    remedy,
    say_plan,
)
from rapo_ray.config import RunConfig, load_config
from rapo_ray.config.load import shipped_recipes
from rapo_ray.engines.memory import engine_memory
from rapo_ray.errors import ModelError, PlacementError
from rapo_ray.models.shape import KNOWN, ModelShape, read_shape, shape_of
from rapo_ray.trainer.memory import activations, policy_memory, reference_memory

pytestmark = pytest.mark.unit

QWEN_1B, QWEN_8B, QWEN_32B = (KNOWN[f"Qwen/Qwen3-{size}"] for size in ("1.7B", "8B", "32B"))
CARD = 80 * GIB


def config(**sections: Any) -> RunConfig:
    return RunConfig.model_validate(sections)


@pytest.mark.parametrize(("shape", "billions"), [(QWEN_1B, 1.72), (QWEN_8B, 8.19), (QWEN_32B, 32.76)])
def test_a_known_shape_has_the_parameters_that_its_publisher_names(shape: ModelShape, billions: float) -> None:
    assert shape.parameters / 1e9 == pytest.approx(billions, abs=0.01)


def test_the_cache_and_activations_of_an_8b_model_by_hand() -> None:
    assert QWEN_8B.key_value_bytes == 2 * 36 * 8 * 128 * 2
    tokens = 16384
    layer = 12 * 4096 + 4 * 4096 + 2 * 4096 + 4 * (4096 + 1024) + 8 * 12288 + 6 * (4096 + 1024)
    assert activations(QWEN_8B, tokens, checkpointed=False) == 36 * layer * tokens
    assert activations(QWEN_8B, tokens, checkpointed=True) == (36 * 2 * 4096 + layer) * tokens


def test_sharding_divides_what_its_stage_shards() -> None:
    def static(stage: int) -> float:
        policy = config(policy={"ranks": 4, "zero_stage": stage}).policy
        return policy_memory(QWEN_8B, policy, 1024).static["optimizer"] / (12 * QWEN_8B.parameters)

    assert [static(stage) for stage in (0, 1, 2, 3)] == [1, 0.25, 0.25, 0.25]


def test_dense_masks_are_counted_where_no_kernel_does_without() -> None:
    def counted(shape: ModelShape, **policy: Any) -> float:
        settings = config(policy={"micro_batch_tokens": 16384, **policy}).policy
        return policy_memory(shape, settings, 4096).working.get("masks", 0.0)

    windowed = replace(QWEN_8B, windowed=True)
    pairs = 16384 * 4096
    assert counted(QWEN_8B, dtype="bfloat16") == 0
    assert counted(QWEN_8B, dtype="float32") == 5 * pairs
    assert counted(windowed, dtype="bfloat16") == 2 * 3 * pairs
    assert counted(windowed, dtype="float32", row_tokens=0) == 0
    assert reference_memory(windowed, 16384, 4096, 512).working["masks"] == 2 * 3 * pairs
    assert "masks" not in reference_memory(QWEN_8B, 16384, 4096, 512).working


@pytest.mark.parametrize(
    ("content", "windowed"),
    [({}, False), ({"sliding_window": None}, False), ({"sliding_window": 512}, True)]
    + [({"sliding_window": 512, "use_sliding_window": use}, use) for use in (False, True)],
)
def test_a_shape_knows_of_sliding_windows(content: dict[str, Any], windowed: bool) -> None:
    sizes = ("hidden_size", "num_attention_heads", "num_hidden_layers", "intermediate_size", "vocab_size")
    assert shape_of({**dict.fromkeys(sizes, 8), **content}).windowed is windowed


def test_an_engine_s_cache_is_what_its_share_leaves() -> None:
    engine = engine_memory(QWEN_8B, CARD, 0.85, 1, 256, eager=True)
    assert engine.total == pytest.approx(0.85 * CARD)
    assert engine.sequences(8192) == int(engine.kv_cache / (147456 * 8192)) > 0


def test_cards_that_are_shared_hold_each_turn_s_tenants_by_hand() -> None:
    loaded = load_config("gpu-8")
    generating, training, warmup = plan_memory(loaded, {"policy": QWEN_8B, "risk": QWEN_8B}, CARD)
    assert (generating.count, training.count, warmup.count) == (8, 8, 8)
    assert generating.tenants == {
        "rollout": pytest.approx(0.6 * CARD),
        "judge-risk": pytest.approx(0.25 * CARD),
        "policy": 1.5 * GIB,
        "sync buffers": 5 * 2 * 151936 * 4096,  # the embedding, on its way from the rank's shards into the engine
    }
    policy = policy_memory(QWEN_8B, loaded.policy, 16384)
    asleep = 2.5 * GIB  # context and graphs
    assert training.tenants == {"policy": policy.peak, "rollout": asleep, "judge-risk": asleep}
    assert warmup.tenants == {"warm-up": policy.peak}


def test_host_memory_of_the_time_shared_layout_by_hand() -> None:
    loaded = load_config("gpu-8")
    shapes = {"policy": QWEN_8B, "risk": QWEN_8B}
    states, starts, judges = 14 * QWEN_8B.parameters, 2 * QWEN_8B.parameters, 4 * 2 * QWEN_8B.parameters
    assert host_memory(loaded, shapes) == states + starts + judges


def test_offloaded_masters_take_their_gradients_along() -> None:
    near, away = (config(policy={"zero_stage": 3, "offload": offload}).policy for offload in (False, True))
    gradients = [policy_memory(QWEN_8B, each, 1024).working["gradients"] for each in (near, away)]
    assert gradients[0] - gradients[1] == 4 * QWEN_8B.parameters


def test_adapters_need_a_card_that_holds_the_warm_up_of_all_weights() -> None:
    small = load_config("gpu-1", ["model.path=Qwen/Qwen3-8B", "policy.lora_rank=16"])
    cards = {next(iter(card.tenants)): card for card in plan_memory(small, {"policy": QWEN_8B}, CARD)}
    assert cards["policy"].peak < CARD < cards["warm-up"].peak
    skipped = load_config("gpu-1", ["model.path=Qwen/Qwen3-8B", "policy.lora_rank=16", "warmup.source=none"])
    assert fits(plan_memory(skipped, {"policy": QWEN_8B}, CARD), CARD)


def test_the_longest_row_of_an_8b_model_on_four_ranks_is_beyond_32k_tokens() -> None:
    def split(tokens: int) -> list[str]:
        loaded = load_config(
            "gpu-8",
            [
                "rollout.colocate=false", "rollout.engines=3", "judge.risk.actors=1", "judge.risk.memory_share=0.85",
                "rollout.memory_share=0.85", "policy.ranks=4", f"rollout.max_new_tokens={tokens - 2048}",
            ],
        )  # fmt: skip
        cards = plan_memory(loaded, {"policy": QWEN_8B, "risk": QWEN_8B}, CARD)
        return [name for card in cards for name in card.tenants if card.peak > (1 - RESERVE) * CARD]

    assert split(32768) == []
    assert split(131072) == ["policy", "warm-up"]


@pytest.mark.parametrize("recipe", sorted(set(shipped_recipes()) - {"quickstart", "quickstart-attacked"}))
def test_every_gpu_recipe_fits_80_gib_with_room_to_spare(recipe: str) -> None:
    loaded = load_config(recipe)
    shapes = model_shapes(loaded)
    assert shapes is not None
    cards = plan_memory(loaded, shapes, CARD)
    assert max(card.peak for card in cards) <= (1 - RESERVE) * CARD
    assert fits(cards, CARD)


def test_an_8b_model_on_one_card_is_refused_with_settings_that_would_fit() -> None:
    crowded = load_config("gpu-1", ["model.path=Qwen/Qwen3-8B"])
    shapes = model_shapes(crowded)
    assert shapes is not None
    with pytest.raises(PlacementError) as caught:
        check_memory(crowded, shapes, CARD)
    assert "\n" not in str(caught.value)
    change = remedy(crowded, shapes, CARD)
    assert change and f"set {' '.join(change)}" in str(caught.value)
    check_memory(load_config("gpu-1", ["model.path=Qwen/Qwen3-8B", *change]), shapes, CARD)


def test_a_70b_model_on_one_card_is_refused_without_a_false_promise() -> None:
    large = ModelShape(80, 8192, 28672, 8192, 1024, 128256, tied=False)
    crowded = load_config("gpu-1")
    with pytest.raises(PlacementError, match="use a smaller model, or larger or more cards"):
        check_memory(crowded, {"policy": large}, CARD)


def test_no_room_for_a_single_sequence_is_said() -> None:
    tight = load_config("gpu-1", ["rollout.memory_share=0.05"])
    with pytest.raises(PlacementError, match="leaves rollout no room for one sequence at its limit"):
        check_memory(tight, {"policy": QWEN_1B}, CARD)


def test_a_cpu_run_has_no_plan_and_an_unknown_model_is_one_line() -> None:
    lines: list[str] = []
    say_plan(load_config("quickstart"), lines.append)
    assert lines == []
    say_plan(load_config("gpu-1", ["model.path=org/unknown"]), lines.append)
    assert len(lines) == 1 and lines[0].startswith("no memory plan: ")


def test_the_card_s_size_is_the_config_s_first() -> None:
    assert card_memory(config(cluster={"gpu_memory_gib": 24})) == 24 * GIB


def test_a_shape_is_read_from_config_json_of_either_layout(tmp_path: Path) -> None:
    sizes = {
        "hidden_size": 64,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "intermediate_size": 128,
        "vocab_size": 512,
    }
    assert shape_of({"text_config": sizes, "model_type": "x"}) == shape_of(sizes)
    assert shape_of(sizes).key_width == 64  # no key-value heads named: as many as queries
    (tmp_path / "config.json").write_text(json.dumps({**sizes, "hidden_size": None}))
    with pytest.raises(ModelError, match=r"config\.json: the model's shape cannot be read"):
        read_shape(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**sizes, "num_experts": 8}))
    lines: list[str] = []
    say_plan(load_config("gpu-1", [f"model.path={tmp_path}"]), lines.append)  # no plan is no refusal
    assert len(lines) == 1 and "num_experts: mixtures of experts are not counted yet" in lines[0]


def test_offload_without_zero_is_refused() -> None:
    with pytest.raises(ValueError, match=r"policy\.offload=true needs policy\.zero_stage=1 or more"):
        config(policy={"offload": True, "zero_stage": 0})
