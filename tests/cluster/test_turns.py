"""Policy ranks that share their cards: states leave and come back, and start weights take the policy's place."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from safetensors.numpy import load_file

from actors.cluster import ray_cluster
from actors.reference import ReferenceActor
from actors.training_group import PolicyAsReference, PolicyGroup, ReferenceGroup
from rapo_ray.config.learning import PolicyConfig
from rapo_ray.config.run import ClusterConfig, LimitsConfig
from rapo_ray.models.source import ModelSource
from tests.cluster.test_zero import ENV, Gathering, sequences
from tests.tiny import tiny_model

pytestmark = pytest.mark.cluster

LIMITS = (64, 32)  # tokens of a micro-batch, tokens of a row


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"), seed=1)


@pytest.fixture(scope="module")
def cluster() -> Any:
    with ray_cluster(ClusterConfig(device="cpu")) as resources:
        yield resources


class Cards:
    """The engines' and judges' side, which notes its calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def free(self) -> None:
        self.calls.append("free")

    def wake_judges(self) -> None:
        self.calls.append("wake judges")


class Policy(PolicyGroup):
    """All ranks, without engines to send weights to."""

    def _send(self, version: int, engines: list[int] | None) -> None:
        pass


def start(model: Path, config: PolicyConfig, cards: Cards | None) -> Policy:
    """The ranks of a policy, on shared cards where there are `cards`."""
    actor = ray.remote(Gathering).options(num_cpus=0.1, runtime_env={"env_vars": ENV})
    ranks = [actor.remote(f"p{rank}", config, rank, "cpu", cards is not None) for rank in range(config.ranks)]
    address, port = ray.get(ranks[0].rendezvous.remote())
    ray.get([rank.start.remote(address, port, ModelSource.of(model), 1.0, 4, 0) for rank in ranks], timeout=240)
    shared: Any = cards
    return Policy(ranks, config, LimitsConfig(update=240), shared)


def two_rounds(model: Path, folder: Path, settings: dict[str, Any], shared: bool) -> dict[str, Any]:
    """Log-probs of the reference before each of two updates, and the weights after them; split or time-shared."""
    config = PolicyConfig(
        **{"dtype": "float32", "learning_rate": 1e-2, "ranks": 2, "micro_batch_tokens": 64, "kl_coef": 0.05, **settings}
    )
    cards = Cards() if shared else None
    policy = start(model, config, cards)
    frozen = ray.remote(ReferenceActor).options(num_cpus=0.1, runtime_env={"env_vars": ENV})
    actors = [frozen.remote(f"r{index}", ModelSource.of(model), config.dtype, 1.0, "cpu") for index in range(2)]
    limits = LimitsConfig(update=240)
    reference: Any = PolicyAsReference(policy, *LIMITS) if shared else ReferenceGroup(actors, limits, *LIMITS)
    out: dict[str, Any] = {}
    policy.send_weights(0)
    for number in (1, 2):
        attached = reference.attach_logprobs([replace(row, reference_logprobs=None) for row in sequences()])
        out[f"reference {number}"] = [row.reference_logprobs for row in attached]
        out[f"sums {number}"] = policy.update(attached).sums
        policy.send_weights(number)
        (folder / f"saved {number}").mkdir(parents=True)
        policy.save(folder / f"saved {number}")()
    policy.export(folder / "model", "float32")
    out["weights"] = dict(load_file(folder / "model" / "model.safetensors"))
    policy.load(folder / "saved 1")
    policy.update(attached)
    policy.export(folder / "again", "float32")
    out["again"] = dict(load_file(folder / "again" / "model.safetensors"))
    if cards is not None:
        assert cards.calls == ["wake judges", "free"] * 2 + ["wake judges", "free"]
    for actor in [*policy._actors, *actors]:
        ray.kill(actor)
    return out


def same(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> bool:
    return left.keys() == right.keys() and all(np.array_equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize(
    "settings",
    [
        {"zero_stage": 2},
        {"zero_stage": 2, "dtype": "bfloat16", "offload": True},
        {"zero_stage": 3, "dtype": "bfloat16"},
        {"zero_stage": 3, "offload": True},
        {"zero_stage": 2, "lora_rank": 4},
        {"zero_stage": 3, "lora_rank": 4},
    ],
)
def test_taking_turns_changes_no_bit(model: Path, cluster: Any, tmp_path: Path, settings: dict[str, Any]) -> None:
    split, shared = (two_rounds(model, tmp_path / str(way), settings, way) for way in (False, True))
    assert shared["reference 1"] == split["reference 1"] == split["reference 2"] == shared["reference 2"]
    assert shared["sums 1"] == split["sums 1"]
    assert shared["sums 2"] == split["sums 2"]
    assert same(shared["weights"], split["weights"])
    assert same(shared["again"], shared["weights"]), "the second round again, from the checkpoint of the first"
