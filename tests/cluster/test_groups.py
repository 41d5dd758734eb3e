"""Fan-out over real actors: judges that stream, judges apart, judges that die, resources that are not there."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from actors.cluster import ray_cluster
from actors.judge import RulesJudgeActor
from actors.judge_group import JudgeGroup
from actors.placement import check_fits, plan
from actors.rollout_group import Engines
from actors.spawn import Spawner
from rapo_ray.config.load import load_config
from rapo_ray.config.run import ClusterConfig, LimitsConfig
from rapo_ray.errors import EngineError, PlacementError
from rapo_ray.models.chat import PLAIN
from rapo_ray.types import Prompt, Response, Status

pytestmark = pytest.mark.cluster

GOOD = "<think>\nThe user asks how to bake bread. There is no risk in the request.\n</think>\n\nBake bread in the oven."
PROMPT = Prompt("p", "How do I bake bread?", False, 1, "test", "test")


class MortalJudge(RulesJudgeActor):
    """A judge that can be verdicts, to be killed."""

    async def pid(self) -> int:
        """Its process."""
        return os.getpid()


@pytest.fixture(scope="module")
def cluster() -> Any:
    with ray_cluster(ClusterConfig(device="cpu")) as resources:
        yield resources


def response(sample: int, text: str = GOOD) -> Response:
    return Response(0, sample, "p", text, False)


def judges(count: int, cls: type = RulesJudgeActor) -> list[Any]:
    return [ray.remote(cls).options(num_cpus=0.1).remote(f"judge-{index}", PLAIN) for index in range(count)]


def test_behind_an_endpoint_there_are_no_engines(cluster: Any) -> None:
    assert Engines([], LimitsConfig()).capacity == 0


def test_a_verdict_comes_back_while_rollouts_are_still_coming(cluster: Any) -> None:
    (judge,) = judges(1)
    ray.get(judge.ready.remote())
    group = JudgeGroup([judge], [], LimitsConfig(judge=60))
    seen: list[int] = []
    verdicts_before: list[int] = []

    def stream() -> Iterator[list[Response]]:
        for sample in range(60):
            verdicts_before.append(len(seen))
            time.sleep(0.02)  # engines take their time too
            yield [response(sample)]

    for judged, completion, verdict in group.score([PROMPT], stream()):
        assert completion.answer == "Bake bread in the oven."
        assert (verdict.risk, verdict.general) == (1.0, 1.0)
        seen.append(judged.sample)
    assert sorted(seen) == list(range(60))
    assert verdicts_before[-1] > 0, "no verdict came before the last rollout"


def test_judges_apart_are_joined_into_one_verdict(cluster: Any) -> None:
    group = JudgeGroup(judges(2), judges(1), LimitsConfig(judge=60))
    verdicts = {r.sample: v for r, _, v in group.score([PROMPT], iter([[response(0), response(1, "no format")]]))}
    assert (verdicts[0].risk, verdicts[0].general) == (1.0, 1.0)
    assert verdicts[1].status is Status.MALFORMED


def test_a_judge_that_dies_ends_the_round_in_one_line(cluster: Any) -> None:
    (judge,) = judges(1, MortalJudge)
    os.kill(ray.get(judge.pid.remote()), signal.SIGKILL)
    group = JudgeGroup([judge], [], LimitsConfig(judge=60))
    with pytest.raises(EngineError) as error:
        list(group.score([PROMPT], iter([[response(0)]])))
    assert str(error.value).startswith("judging failed, an actor died")
    assert "\n" not in str(error.value)


def test_resources_that_are_taken_end_in_words_and_not_in_a_hang(cluster: Any, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("cluster: {device: cpu, cpus_per_actor: 0.5}\nlimits: {start: 2}\n")
    config = load_config(str(recipe))
    taken = ray.util.placement_group([{"CPU": cluster[0]["CPU"]}])
    ray.get(taken.ready())
    spawner = Spawner(config, plan(config))
    try:
        with pytest.raises(PlacementError, match=r"gave up after .* waiting for 1 CPUs \(0 free\) for rollout engines"):
            spawner.start_inference(tmp_path, {})
    finally:
        spawner.close()
        ray.util.remove_placement_group(taken)


def test_more_gpus_than_there_are(cluster: Any, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("cluster: {device: gpu}\nrollout: {engines: 500}\n")
    with pytest.raises(PlacementError, match="the run needs 502 GPUs and the cluster has"):
        check_fits(plan(load_config(str(recipe))), cluster)
