"""Many rounds with kills at random times: the same parameters as without, and memory that does not grow."""

import random
import signal
import time
from collections import defaultdict
from pathlib import Path
from statistics import mean
from typing import Any

import psutil
import pytest

from tests.chaos.faults import SETTINGS, Live, actors, metrics, running, same_end, send
from tests.e2e.conftest import Cluster, tiny_recipe

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(5400)]

ROUNDS, KILLS, EDGE = 200, 8, 50
KINDS = ("RolloutActor", "PolicyActor", "ReferenceActor", "RulesJudgeActor")
GROWTH = 1.05


@pytest.fixture
def soaked(tiny: Path, warmed: dict[str, Any], tmp_path: Path) -> dict[str, Path]:
    settings = {**SETTINGS, **warmed, "rounds": ROUNDS, "prompts_per_round": 8, "checkpoint": {"every": 5}}
    settings["policy"] = {"learning_rate": 1e-5}  # so that the last rounds still have a training signal
    settings["limits"] = {"start": 120, "restarts": 2 * KILLS}
    return {name: tiny_recipe(tiny, tmp_path / name, **settings) for name in ("whole", "disturbed")}


def test_soak(soaked: dict[str, Path], cluster: Cluster) -> None:
    with running(soaked["whole"], cluster) as run:
        sizes = memory_until_end(run, {}, cluster)
        whole = run.folder
    generator = random.Random(7)
    rounds = sorted(generator.sample(range(EDGE + 1, ROUNDS - EDGE), KILLS))  # no kills at the edges, to be compared
    kills = {number: generator.choice(KINDS) for number in rounds}
    with running(soaked["disturbed"], cluster) as run:
        disturbed = memory_until_end(run, kills, cluster)
    same_end(run.folder, whole)
    assert any(line["update"]["optimizer_steps"] for line in metrics(whole)[-EDGE:]), "no optimizer step at the end"
    for name, by_round in {**{f"whole {k}": v for k, v in sizes.items()}, **disturbed}.items():
        first = mean(size for number, size in by_round if 0 < number <= EDGE)
        last = mean(size for number, size in by_round if number > ROUNDS - EDGE)
        assert last <= GROWTH * first, f"{name} grew from {first / 2**20:.0f} to {last / 2**20:.0f} MiB"


def memory_until_end(run: Live, kills: dict[int, str], cluster: Cluster) -> dict[str, list[tuple[int, int]]]:
    """Sample (round, bytes) of the driver and of each kind of actor until the run ends, and kill actors on schedule."""
    samples: dict[str, list[tuple[int, int]]] = defaultdict(list)
    pending = dict(kills)
    while run.process.poll() is None:
        number = len(metrics(run.folder))
        groups = {"driver": [psutil.Process(run.process.pid)], **{kind: actors(kind, cluster) for kind in KINDS}}
        for name, processes in groups.items():
            try:
                samples[name].append((number, sum(process.memory_info().rss for process in processes)))
            except psutil.NoSuchProcess:
                continue
        if pending and number >= min(pending):
            victims = actors(pending.pop(min(pending)), cluster)
            if victims:
                send(victims[0], signal.SIGKILL)
        time.sleep(1)
    assert run.process.returncode == 0, run.output[-3000:]
    assert not pending, "not every kill was reached"
    return {name: [(number, size) for number, size in each if size] for name, each in samples.items()}
