"""Two ranks under ZeRO-1, 2 and 3 take the same steps as one rank without ZeRO."""

import hashlib
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from actors.cluster import ray_cluster
from actors.policy import PolicyActor
from actors.training_group import PolicyGroup
from rapo_ray.config.learning import PolicyConfig
from rapo_ray.config.run import ClusterConfig, LimitsConfig
from rapo_ray.errors import NonFiniteStep
from rapo_ray.models.source import ModelSource
from rapo_ray.types import Sequence
from tests.tiny import tiny_model

pytestmark = pytest.mark.cluster

ENV = {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"), seed=1)


@pytest.fixture(scope="module")
def cluster() -> Any:
    with ray_cluster(ClusterConfig(device="cpu")) as resources:
        yield resources


def sequences() -> list[Sequence]:
    """Make seven sequences of different lengths, so that ranks and micro-batches are uneven."""
    generator = np.random.default_rng(0)
    rows = []
    for length in (9, 30, 14, 22, 17, 11, 26):
        tokens = tuple(int(token) for token in generator.integers(3, 500, 6 + length))
        logprobs = tuple(float(value) for value in -generator.random(length) - 5.5)
        advantage = float(generator.normal())
        rows.append(Sequence(tokens[:6], tokens[6:], advantage, logprobs, logprobs))
    return rows


class Gathering(PolicyActor):
    """A rank that gathers every parameter under ZeRO-3, and whose head works in chunks of eight tokens.

    DeepSpeed never shards parameters as small as a tiny model's by itself (`param_persistence_threshold`).
    """

    def start(self, *arguments: Any) -> str:
        """Load the model under these limits."""
        from rapo_ray.trainer import deepspeed_setup, head

        original = deepspeed_setup.deepspeed_config

        def gathering(*settings: Any) -> dict[str, Any]:
            config = original(*settings)
            config["zero_optimization"]["stage3_param_persistence_threshold"] = 0
            return config

        deepspeed_setup.deepspeed_config = gathering
        head.LOGIT_ROWS = 8  # type: ignore[attr-defined]
        return super().start(*arguments)


@contextmanager
def policy_of(model: Path, actor: type[PolicyActor] = PolicyActor, **settings: Any) -> Iterator[PolicyGroup]:
    """Start the ranks of a policy."""
    config = PolicyConfig(
        **{
            "dtype": "float32",
            "learning_rate": 1e-2,
            "steps_per_round": 2,
            "micro_batch_tokens": 64,
            "kl_coef": 0.05,
            **settings,
        }
    )
    ranks = [
        ray.remote(actor).options(num_cpus=0.1, runtime_env={"env_vars": ENV}).remote(f"p{rank}", config, rank, "cpu")
        for rank in range(config.ranks)
    ]
    try:
        address, port = ray.get(ranks[0].rendezvous.remote())
        ray.get([rank.start.remote(address, port, ModelSource.of(model), 1.0, 4, 0) for rank in ranks], timeout=240)
        yield PolicyGroup(ranks, config, LimitsConfig(update=240))
    finally:
        for rank in ranks:
            ray.kill(rank)


def trained(
    model: Path, folder: Path, actor: type[PolicyActor] = PolicyActor, **settings: Any
) -> dict[str, np.ndarray]:
    """Return the parameters after two updates of two steps, with a save and a load in between."""
    from safetensors.numpy import load_file

    with policy_of(model, actor, **settings) as policy:
        first = policy.update(sequences())
        assert first.sums["tokens"] == sum(len(row.completion) for row in sequences())
        assert first.sums["optimizer_steps"] == 2
        (folder / "saved").mkdir(parents=True)
        policy.save(folder / "saved")()
        policy.load(folder / "saved")
        policy.update(sequences())
        policy.export(folder / "model", "float32")
        return dict(load_file(folder / "model" / "model.safetensors"))


@pytest.fixture(scope="module")
def one_rank(model: Path, cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    return trained(model, tmp_path_factory.mktemp("one"), ranks=1, zero_stage=0)


@pytest.mark.parametrize("zero_stage", [1, 2, 3])
def test_two_ranks_agree_with_one(
    model: Path, cluster: Any, one_rank: dict[str, np.ndarray], tmp_path: Path, zero_stage: int
) -> None:
    from safetensors.numpy import load_file

    two = trained(model, tmp_path, ranks=2, zero_stage=zero_stage)
    start = load_file(model / "model.safetensors")
    assert two.keys() == one_rank.keys()
    moved = max(float(np.abs(one_rank[name] - start[name]).max()) for name in start)
    assert moved > 1e-2, "the updates changed nothing"
    for name, values in one_rank.items():
        np.testing.assert_allclose(two[name], values, atol=1e-4, err_msg=name)


@pytest.mark.parametrize(("ranks", "zero_stage"), [(1, 0), (1, 1), (2, 2), (2, 3)])
def test_the_first_step_in_bf16_is_the_learning_rate_at_every_stage(
    model: Path, cluster: Any, tmp_path: Path, ranks: int, zero_stage: int
) -> None:
    from safetensors.numpy import load_file

    settings = {"ranks": ranks, "zero_stage": zero_stage, "dtype": "bfloat16", "steps_per_round": 1}
    with policy_of(model, **settings) as policy:
        policy.update(sequences())
        policy.export(tmp_path / "model", "float32")
    before, after = load_file(model / "model.safetensors"), load_file(tmp_path / "model" / "model.safetensors")
    name = "model.layers.0.mlp.down_proj.weight"
    assert float(np.abs(after[name] - before[name]).mean()) == pytest.approx(
        1e-2, rel=0.02
    )  # Adam's, by its definition


def test_gradients_of_many_micro_batches_add_up_in_float32(model: Path, cluster: Any) -> None:
    """ZeRO-2 added them up in bf16, though the config says float32: small ones are lost beside a large sum."""
    rows = [replace(row, advantage=abs(row.advantage)) for row in sequences()] * 12
    norms = []
    for zero_stage in (2, 3):
        settings = {"ranks": 1, "zero_stage": zero_stage, "dtype": "bfloat16", "steps_per_round": 1}
        with policy_of(model, **settings, micro_batch_tokens=16, row_tokens=0) as policy:
            norms.append(policy.update(rows).sums["grad_norm"])
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)


def test_far_positions_are_rotated_alike_at_every_stage(model: Path, cluster: Any) -> None:
    """Loaded in shards in bf16, a model had rotary frequencies rounded to bf16 too (DeepSpeed issue 4932)."""
    tokens = tuple(int(token) for token in np.random.default_rng(0).integers(3, 500, 120))
    long = Sequence(tokens[:6], tokens[6:], 0.5, (-6.0,) * 114, (-6.0,) * 114)
    gaps = []
    for zero_stage in (2, 3):
        settings = {"ranks": 1, "zero_stage": zero_stage, "dtype": "bfloat16", "steps_per_round": 1}
        with policy_of(model, **settings) as policy:
            gaps.append(policy.update([long]).sums["gap"])
    assert gaps[0] == gaps[1]


@pytest.mark.parametrize("checkpointing", [False, True])
def test_ranks_that_gather_each_parameter_and_have_other_numbers_of_chunks_agree_with_one(
    model: Path, cluster: Any, one_rank: dict[str, np.ndarray], tmp_path: Path, checkpointing: bool
) -> None:
    settings = {"ranks": 2, "zero_stage": 3, "gradient_checkpointing": checkpointing}
    two = trained(model, tmp_path, Gathering, **settings)
    for name, values in one_rank.items():  # Adam makes a rounding of a small gradient a larger one of the step (1e-2)
        np.testing.assert_allclose(two[name], values, atol=5e-4, err_msg=name)


def test_adapters_are_trained_saved_and_merged_alike(model: Path, cluster: Any, tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    one = trained(model, tmp_path / "one", ranks=1, zero_stage=0, lora_rank=4)
    two = trained(model, tmp_path / "two", ranks=2, zero_stage=3, lora_rank=4)
    start = load_file(model / "model.safetensors")
    assert one.keys() == start.keys()
    for name, values in one.items():
        np.testing.assert_allclose(two[name], values, atol=1e-4, err_msg=name)
        moved = float(np.abs(values - start[name]).max())
        assert moved > 1e-3 if "proj" in name else moved == 0, name


class Masked(PolicyActor):
    """A rank whose files tell who wrote them: others may read DeepSpeed's if it was rank 0, and not if it was rank 1.

    It leaves the names of the files that it hashed beside the folder.
    """

    def save(self, folder: Path) -> dict[str, str]:
        """Save with the rank's mask."""
        os.umask(0o077 if self._rank else 0o022)
        sums = super().save(folder)
        (folder.parent / f"hashed-{self._rank}").write_text("\n".join(sums))
        return sums


@pytest.mark.parametrize(("zero_stage", "dtype"), [(0, "bfloat16"), (1, "float32"), (2, "bfloat16"), (3, "float32")])
def test_each_file_is_hashed_once_by_the_rank_that_wrote_it(
    model: Path, cluster: Any, tmp_path: Path, zero_stage: int, dtype: str
) -> None:
    (folder := tmp_path / "saved").mkdir()
    with policy_of(model, Masked, ranks=2, zero_stage=zero_stage, dtype=dtype) as policy:
        policy.update(sequences())
        sums = policy.save(folder)()
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    assert sums == {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    hashed_by = [(tmp_path / f"hashed-{rank}").read_text().splitlines() for rank in range(2)]
    assert sorted(hashed_by[0] + hashed_by[1]) == sorted(files)
    written_by: list[list[str]] = [["random-0.safetensors"], ["random-1.safetensors"]]  # always 0600
    for name, path in files.items():
        if not name.startswith("random-"):
            written_by[0 if path.stat().st_mode & 0o044 else 1].append(name)
    assert [sorted(names) for names in hashed_by] == [sorted(names) for names in written_by]
    assert any(len(names) > 1 for names in hashed_by)


@pytest.mark.fault(14)
@pytest.mark.parametrize(("ranks", "zero_stage"), [(1, 0), (2, 2), (2, 3)])
def test_a_loss_that_is_not_finite_stops_all_ranks_before_the_step(
    model: Path, cluster: Any, ranks: int, zero_stage: int
) -> None:
    bad = [replace(row, advantage=math.nan) if index == 3 else row for index, row in enumerate(sequences())]
    with policy_of(model, ranks=ranks, zero_stage=zero_stage) as policy:
        before = policy.weight_checksums("float32")
        with pytest.raises(NonFiniteStep, match=r"policy rank \d: (the loss is not finite|another rank stopped)"):
            policy.update(bad[3:4] * 2)  # its only prompt: one step, the first
        assert policy.weight_checksums("float32") == before


@pytest.mark.fault(14)
def test_weights_that_are_not_finite_stop_the_update_before_they_are_sent(model: Path, cluster: Any) -> None:
    refused = pytest.raises(NonFiniteStep, match="the step left weights that are not finite")
    with policy_of(model, ranks=1, zero_stage=0, learning_rate=1e39) as policy, refused:  # inf in float32
        policy.update(sequences()[:1])
