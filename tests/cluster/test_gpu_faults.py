"""GPU paths that CPUs can show: checkpointed layers, masks, memory, visible devices, ranks of the transfer group."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import ray

from rapo_ray.config.learning import PolicyConfig
from rapo_ray.types import Sequence
from tests.ports import free_port
from tests.tiny import tiny_model

pytestmark = pytest.mark.cluster

ROW = Sequence((1, 5, 6), (7, 8, 2), 0.5, (-6.0, -6.0, -6.0), (-6.0, -6.0, -6.0))


@pytest.fixture
def fake_gpus() -> Any:
    """A node that claims four GPUs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")  # as actors/cluster.py sets it
        patch.setenv("RAY_TRAIN_V2_ENABLED", "1")
        ray.init(num_cpus=4, num_gpus=4, log_to_driver=False, logging_level="ERROR")
        yield
        ray.shutdown()


@ray.remote(num_cpus=0.1, max_calls=1)
def layer_calls(model: Path, checkpointing: bool, warm_up: bool) -> int:
    """Forward calls of the first layer in one update of one micro-batch."""
    from rapo_ray.config.run import WarmupConfig
    from rapo_ray.trainer.batch import MicroBatch, Step
    from rapo_ray.trainer.deepspeed_setup import join_process_group
    from rapo_ray.trainer.policy import PolicyRank
    from rapo_ray.warmup.sft import SftRank

    join_process_group(0, 1, "127.0.0.1", free_port(), "cpu")
    config = PolicyConfig(dtype="float32", zero_stage=0, gradient_checkpointing=checkpointing)
    rank: Any
    rank = SftRank(model, None, WarmupConfig(), config, 1) if warm_up else PolicyRank(config, model, 0, 1.0, 1, 0)
    calls = 0

    def count(*_: Any) -> None:
        nonlocal calls
        calls += 1

    rank._engine.module.language_model.model.layers[0].input_layernorm.register_forward_pre_hook(count)
    steps = [Step((MicroBatch(((ROW,),)),), 1, 3)]
    list(rank.run(steps)) if warm_up else rank.update(steps)
    return calls


@pytest.mark.parametrize("warm_up", [False, True])
def test_gradient_checkpointing_computes_each_layer_a_second_time(tmp_path: Path, warm_up: bool) -> None:
    ray.init(
        num_cpus=2, log_to_driver=False, logging_level="ERROR", runtime_env={"env_vars": {"DS_ACCELERATOR": "cpu"}}
    )
    try:
        model = tiny_model(tmp_path / "model", seed=0)
        calls = ray.get([layer_calls.remote(model, on, warm_up) for on in (False, True)], timeout=300)
    finally:
        ray.shutdown()
    assert calls == [1, 2]


@ray.remote(num_cpus=0.1)
class Witness:
    """An actor that reports the devices that CUDA would see."""

    def devices(self) -> str | None:
        """The variable as its process has it."""
        return os.environ.get("CUDA_VISIBLE_DEVICES")


def test_an_actor_without_gpus_sees_none(fake_gpus: None) -> None:
    assert ray.get(Witness.remote().devices.remote(), timeout=60) == ""
    assert ray.get(Witness.options(num_gpus=1).remote().devices.remote(), timeout=60) in {"0", "1", "2", "3"}


def local_rank_and_devices(_: dict[str, Any]) -> None:
    """Report what a Ray Train worker has before and after our loop's environment."""
    import ray.train

    rank = ray.train.get_context().get_local_rank()
    seen = {"rank": rank, "LOCAL_RANK": os.environ["LOCAL_RANK"], "devices": os.environ["CUDA_VISIBLE_DEVICES"]}
    with open(os.path.join(_["folder"], str(rank)), "w", encoding="utf-8") as out:
        out.write(json.dumps(seen))


def test_ray_train_numbers_its_workers_over_devices_that_all_of_them_see(fake_gpus: None, tmp_path: Path) -> None:
    """The reason that actors/sft.py leaves LOCAL_RANK alone: with 0 for all, four workers would share one GPU."""
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    TorchTrainer(
        local_rank_and_devices,
        train_loop_config={"folder": str(tmp_path)},
        torch_config=TorchConfig(backend="gloo"),
        scaling_config=ScalingConfig(num_workers=4, use_gpu=True, resources_per_worker={"CPU": 0.1, "GPU": 1}),
        run_config=RunConfig(storage_path=str(tmp_path / "ray")),
    ).fit()
    reports = [json.loads((tmp_path / str(rank)).read_text()) for rank in range(4)]
    assert [int(report["LOCAL_RANK"]) for report in reports] == [0, 1, 2, 3]
    assert {report["devices"] for report in reports} == {"0,1,2,3"}
    assert "LOCAL_RANK" not in Path(__file__).parents[2].joinpath("actors/sft.py").read_text(encoding="utf-8")


def test_rows_of_other_lengths_need_no_mask() -> None:
    import torch
    from transformers import LlamaConfig
    from transformers.masking_utils import create_causal_mask

    from rapo_ray.trainer.batch import MicroBatch
    from rapo_ray.trainer.model import collate

    long, short = (Sequence((1,) * 4, tuple(range(3, 3 + n)), 0.5, (-1.0,) * n) for n in (30, 20))
    batch = collate(MicroBatch(((long,), (short,))))
    assert not batch.packing.several
    config = LlamaConfig(hidden_size=64, num_attention_heads=4, attn_implementation="sdpa")
    rows, width = batch.tokens.shape
    made = create_causal_mask(
        config=config,
        inputs_embeds=torch.zeros(rows, width, 64),
        attention_mask=None,
        past_key_values=None,
        position_ids=batch.positions,
    )
    assert made is None, "transformers takes the rows for packed ones and builds a mask"


class Engine:
    """An engine's handle that notes with what rank offset it joins."""

    def __init__(self, log: list[int]) -> None:
        self.init_weight_transfer = self
        self._log = log

    def remote(self, info: dict[str, Any]) -> Any:
        self._log.append(info["rank_offset"])
        return None


@pytest.mark.parametrize(("tensor_parallel", "offsets"), [(1, [1, 2, 3]), (2, [1, 3, 5])])
def test_every_engine_joins_the_transfer_group_with_ranks_of_its_own(
    tensor_parallel: int, offsets: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    from rapo_ray.engines.transfer import EnginesClient

    monkeypatch.setattr("rapo_ray.engines.transfer.ray.get", lambda calls, timeout: None)
    log: list[int] = []
    client = EnginesClient([Engine(log) for _ in range(3)], 60.0, tensor_parallel)
    client.init_weight_transfer_engine({"master_address": "a", "rank_offset": 1, "world_size": 1 + 3 * tensor_parallel})
    assert log == offsets
