"""Times on GPUs by arithmetic, against numbers worked out by hand for round sizes."""

import pytest

from rapo_ray.config import RunConfig
from rapo_ray.config.load import load_settings
from rapo_ray.errors import ConfigError
from rapo_ray.models.shape import KNOWN, ModelShape
from rapo_ray.simulation.gpu import CARDS, Decoder, GpuCard, gpu_profile
from rapo_ray.simulation.profile import Profile

pytestmark = pytest.mark.unit

# 10 layers of 16 * 100 * 100 + 2 * 100 parameters each, an embedding and a head of 100,000 each.
SHAPE = ModelShape(10, 100, 400, 100, 100, 1000, tied=False)
CARD = GpuCard("round", 80, operations=100e9, memory=1e9, host_link=1e6, card_link=1e9, node_link=1e5)
MULTIPLIED = 10 * (4 * 100 * 100 + 3 * 100 * 400 + 200) + 100_000 + 100
JUDGE = {"backend": "vllm", "model": "judge"}


def config(**settings: object) -> RunConfig:
    tree = {"rollout": {"max_new_tokens": 2000}, "cluster": {"device": "gpu"}, **settings}
    return load_settings(RunConfig, tree, [], "the test")


def profile(**settings: object) -> Profile:
    return gpu_profile(config(**settings), {"policy": SHAPE, "risk": SHAPE}, CARD)


def test_a_step_reads_the_weights_and_the_cache_at_a_share_of_the_memory_s_rate() -> None:
    given = profile()
    assert Decoder(SHAPE, CARD).multiplied == MULTIPLIED  # the embedding is looked up, not multiplied
    assert given.step_seconds == pytest.approx(2 * MULTIPLIED / 0.8e9)
    assert given.cached_token_seconds == pytest.approx(2 * 2 * 10 * 100 / 0.8e9)  # keys and values of ten layers
    assert given.decoding_step(1, 1000) == pytest.approx(
        2 * MULTIPLIED / 0.8e9 + 1000 * 4000 / 0.8e9 + given.sequence_seconds
    )


def test_with_many_sequences_arithmetic_is_slower_than_reading() -> None:
    given = profile()
    assert given.arithmetic_seconds == pytest.approx(2 * MULTIPLIED / 50e9)
    assert given.decoding_step(100, 0) == pytest.approx(100 * given.arithmetic_seconds + 100 * given.sequence_seconds)


def test_an_eager_step_waits_for_its_launches_and_detokenising_for_the_processor() -> None:
    eager, graphs = profile(rollout={"enforce_eager": True}), profile()
    assert eager.decoding_step(1, 0) == pytest.approx(10 * 17e-3 / 36 + eager.sequence_seconds)
    assert graphs.launch_seconds == 0
    texts = gpu_profile(config(), {"policy": SHAPE}, CARD, detokenising=True)
    assert (256 * texts.sequence_seconds, 256 * graphs.sequence_seconds) == pytest.approx((5.6e-3, 1.5e-3))


def test_an_engine_of_two_cards_reads_half_on_each_and_adds_up_over_the_link() -> None:
    one, two = profile(), profile(rollout={"tensor_parallel": 2})
    assert two.step_seconds == pytest.approx(one.step_seconds / 2 + 2 * 10 * 10e-6)
    assert two.cached_token_seconds == pytest.approx(one.cached_token_seconds / 2)


def test_the_cache_bounds_the_sequences_that_run() -> None:
    shapes = {"policy": KNOWN["Qwen/Qwen3-8B"]}
    small = config(rollout={"memory_share": 0.5, "max_new_tokens": 8192}, cluster={"device": "gpu"})
    running = gpu_profile(small, shapes, CARDS["h100"]).running_sequences
    # 42.9 GB, less 16.4 of weights, 1.1 of activations, 1.1 of graphs and 1.6 of context: 147,456 bytes a token
    assert running == pytest.approx(22.8e9 / 147_456 / ((1024 + 8192) / 2), rel=0.02)
    few = config(rollout={"memory_share": 0.5, "max_new_tokens": 8192, "max_num_seqs": 16})
    assert gpu_profile(few, shapes, CARDS["h100"]).running_sequences == 16


def test_a_judge_reads_everything_and_replies_beside_others() -> None:
    label, choice = (profile(judge={"risk": {**JUDGE, "reply": reply}}) for reply in ("label", "choice"))
    tokens = 250 + 64 + 1000
    reading = tokens * (2 * MULTIPLIED + 2 * 10 * 100 * tokens) / 50e9
    step = label.decoding_step(128, 128 * tokens) / 128
    assert label.judge_seconds == pytest.approx(reading + step)
    assert choice.judge_seconds == pytest.approx(reading + 20 * step)
    assert profile().judge_seconds == Profile().judge_seconds  # by rule


def test_an_endpoint_has_no_times() -> None:
    with pytest.raises(ConfigError, match=r"judge\.risk\.backend=http"):
        profile(judge={"risk": {"backend": "http", "model": "m", "url": "https://host/v1"}})


def test_checkpointing_is_a_fourth_forward_pass_and_adapters_save_one() -> None:
    forward = 2 * MULTIPLIED + 2 * 10 * 100 * 1000  # attention over half of 1,000 tokens before, on average
    rates = {
        passes: profile(policy=policy).update_tokens_per_second
        for passes, policy in (
            (3, {}),
            (4, {"gradient_checkpointing": True}),
            (2, {"lora_rank": 8}),
        )
    }
    assert rates == pytest.approx({passes: 40e9 / (passes * forward) for passes in rates})
    assert profile().reference_tokens_per_second == pytest.approx(50e9 / forward)


def test_more_than_a_node_of_ranks_may_wait_for_the_network() -> None:
    near = profile(policy={"ranks": 8, "zero_stage": 3, "micro_batch_tokens": 1000})
    far = profile(policy={"ranks": 16, "zero_stage": 3, "micro_batch_tokens": 1000})
    assert near.update_tokens_per_second == pytest.approx(40e9 / (3 * (2 * MULTIPLIED + 2e6)))
    assert far.update_tokens_per_second == pytest.approx(1000 * 1e5 / (6 * SHAPE.parameters))


def test_states_take_turns_over_the_host_link() -> None:
    shared = {"rollout": {"colocate": True, "engines": 4, "memory_share": 0.5, "max_new_tokens": 2000}}
    judge = {"risk": {**JUDGE, "memory_share": 0.3}}
    given = profile(**shared, judge=judge, policy={"ranks": 4, "zero_stage": 3})
    assert given.turn_seconds == pytest.approx(18 * SHAPE.parameters / 4 / 1e6)
    assert given.swap_seconds == pytest.approx(4 * 2 * SHAPE.parameters / 4 / 1e6)  # both ways, twice
    assert given.judge_turn_seconds == pytest.approx(2 * SHAPE.parameters / 1e6)
    whole = profile(**shared, policy={"ranks": 4, "zero_stage": 2})
    assert whole.turn_seconds == pytest.approx((2 + 12 / 4) * SHAPE.parameters / 1e6)
    away = profile(**shared, policy={"ranks": 4, "zero_stage": 3, "offload": True})
    assert away.turn_seconds == pytest.approx(2 * SHAPE.parameters / 4 / 1e6)


def test_weights_of_8b_reach_engines_in_about_a_second_and_through_shared_memory_in_twenty() -> None:
    shapes = {"policy": KNOWN["Qwen/Qwen3-8B"]}

    def seconds(device: str, **rollout: object) -> float:
        given = config(rollout=rollout, cluster={"device": device})
        return gpu_profile(given, shapes, CARDS["h100"]).sync_seconds

    assert seconds("gpu", colocate=True) == pytest.approx(16.4e9 / 16e9, rel=0.01)
    assert seconds("gpu") == pytest.approx(16.4e9 / 16e9 + 16.4e9 / 450e9, rel=0.01)
    assert 15 < seconds("cpu") < 30


def test_known_shapes_have_the_parameters_of_their_model_cards() -> None:
    billions = {name.rpartition("/")[2]: shape.parameters / 1e9 for name, shape in KNOWN.items()}
    assert billions == pytest.approx(
        {"Qwen3-1.7B": 1.72, "Qwen3-8B": 8.19, "Qwen3-32B": 32.76, "Llama-3.3-70B-Instruct": 70.55}, rel=0.002
    )
