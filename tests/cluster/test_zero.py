"""Two ranks under ZeRO-1, 2 and 3 make the step that one rank makes without ZeRO."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from actors.group import PolicyGroup
from actors.policy import PolicyActor
from rapo_ray.cluster import ray_cluster
from rapo_ray.config import ClusterConfig, LimitsConfig, PolicyConfig
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
    """Seven rows of different lengths, so that ranks and micro-batches are uneven."""
    generator = np.random.default_rng(0)
    rows = []
    for length in (9, 30, 14, 22, 17, 11, 26):
        tokens = tuple(int(token) for token in generator.integers(3, 500, 6 + length))
        logprobs = tuple(float(value) for value in -generator.random(length) - 5.5)
        advantage = float(generator.normal())
        rows.append(Sequence(tokens, 6, advantage, logprobs, logprobs))
    return rows


def trained(model: Path, folder: Path, **settings: Any) -> dict[str, np.ndarray]:
    """Parameters after two updates of two steps, and after a save and a load in between."""
    from safetensors.numpy import load_file

    config = PolicyConfig(
        dtype="float32", learning_rate=1e-2, steps_per_round=2, micro_batch_tokens=64, kl_coef=0.05, **settings
    )
    ranks = [
        ray.remote(PolicyActor)
        .options(num_cpus=0.1, runtime_env={"env_vars": ENV})
        .remote(f"p{rank}", config, rank, "cpu")
        for rank in range(config.ranks)
    ]
    try:
        address, port = ray.get(ranks[0].rendezvous.remote())
        ray.get([rank.start.remote(address, port, model, 1.0, 4, 0) for rank in ranks], timeout=240)
        policy = PolicyGroup(ranks, config, LimitsConfig(update=240))
        first = policy.update(sequences())
        assert first.sums["tokens"] == sum(row.completion_length for row in sequences())
        assert first.sums["optimizer_steps"] == 2
        (folder / "saved").mkdir(parents=True)
        policy.save(folder / "saved")
        policy.load(folder / "saved")
        policy.update(sequences())
        policy.export(folder / "model", "float32")
        return dict(load_file(folder / "model" / "model.safetensors"))
    finally:
        for rank in ranks:
            ray.kill(rank)


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
