"""Killed, stopped and lost actors of a run, with real engines and real signals."""

import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.faults import SETTINGS, Recovered, actors, records, running, same_end, send
from tests.e2e.conftest import Cluster, tiny_recipe, train

pytestmark = pytest.mark.chaos

SHM = Path("/dev/shm")


@pytest.fixture
def recipe(tiny: Path, warmed: dict[str, Any], tmp_path: Path) -> Path:
    """Recipe of the undisturbed run, in its own folder."""
    return tiny_recipe(tiny, tmp_path, **SETTINGS, **warmed, limits={"start": 120, "silence": 12})


@pytest.mark.fault(2)
def test_engines_that_die_repeatedly_end_the_run_and_the_next_one_resumes(
    tiny: Path, warmed: dict[str, Any], cluster: Cluster, undisturbed: Path, tmp_path: Path, recovered: Recovered
) -> None:
    recipe = tiny_recipe(tiny, tmp_path, **SETTINGS, **warmed, limits={"start": 120, "restarts": 0})
    with running(recipe, cluster) as run:
        run.until_round(2)
        for engine in actors("RolloutActor", cluster):
            send(engine, signal.SIGKILL)
        started = time.monotonic()
        assert run.wait() == 1
        recovered.detected = time.monotonic() - started
        assert "rollout-" in run.output.splitlines()[-1], run.output
        assert "limits.restarts=0" in run.output.splitlines()[-1]
        assert "Traceback" not in run.output
    done = train(recipe, "limits.restarts=2", joining=cluster)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "resuming after round 2" in done.stdout
    same_end(run.folder, undisturbed)


@pytest.mark.fault(3)
def test_an_engine_hangs(recipe: Path, cluster: Cluster, undisturbed: Path, recovered: Recovered) -> None:
    with running(recipe, cluster) as run:
        run.until_round(1)
        stopped = actors("RolloutActor", cluster)[0]
        send(stopped, signal.SIGSTOP)
        recovered.detected = run.until_printed("no answer in limits.silence=12 s")
        recovered.back = recovered.detected + run.until_printed("is back")
        assert not stopped.is_running(), "the process that hung still exists"
        assert run.wait() == 0, run.output
    same_end(run.folder, undisturbed)


@pytest.mark.fault(4)
def test_an_engine_is_killed_while_weights_are_sent(
    recipe: Path, cluster: Cluster, undisturbed: Path, recovered: Recovered
) -> None:
    with running(recipe, cluster) as run:
        run.until_round(1)
        before = set(SHM.glob("rapo-weights-*"))
        run.until(lambda: set(SHM.glob("rapo-weights-*")) - before, "a weight transfer")
        send(actors("RolloutActor", cluster)[0], signal.SIGKILL)
        recovered.detected = run.until_printed("was lost")
        assert run.wait() == 0, run.output
    same_end(run.folder, undisturbed)
    assert all(int(str(row["round"])[6:]) - 1 == row["policy_version"] for row in records(run.folder))


@pytest.mark.fault(5)
def test_the_driver_is_killed_while_it_writes_a_checkpoint(
    recipe: Path, cluster: Cluster, undisturbed: Path, recovered: Recovered
) -> None:
    with running(recipe, cluster) as run:
        run.until(lambda: (run.folder / "checkpoints" / "round-000003.tmp").exists(), "the write of round 3")
        run.process.kill()
        run.process.wait()
    assert not (run.folder / "checkpoints" / "round-000003" / "COMPLETE").exists()
    done = train(recipe, joining=cluster)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "resuming after round 2" in done.stdout
    recovered.lost_work = "the round whose checkpoint was being written"
    same_end(run.folder, undisturbed)


@pytest.mark.fault(6)
def test_the_policy_is_killed(recipe: Path, cluster: Cluster, undisturbed: Path, recovered: Recovered) -> None:
    with running(recipe, cluster) as run:
        run.until_round(2)
        run.until(lambda: actors("PolicyActor.update", cluster), "an update")
        send(actors("PolicyActor", cluster)[0], signal.SIGKILL)
        recovered.detected = run.until_printed("starting over from the last checkpoint")
        recovered.back = recovered.detected + run.until_printed("resuming after round 2")
        assert run.wait() == 0, run.output
    recovered.lost_work = "the current round"
    same_end(run.folder, undisturbed)


@pytest.mark.fault(6)
def test_a_judge_and_the_reference_are_killed(
    recipe: Path, cluster: Cluster, undisturbed: Path, recovered: Recovered
) -> None:
    with running(recipe, cluster) as run:
        run.until_round(1)
        send(actors("RulesJudgeActor", cluster)[0], signal.SIGKILL)
        send(actors("ReferenceActor", cluster)[0], signal.SIGKILL)
        assert run.wait() == 0, run.output
    recovered.lost_work = "no judgement"
    same_end(run.folder, undisturbed)


@pytest.mark.fault(20)
def test_a_second_driver_is_refused(recipe: Path, cluster: Cluster, undisturbed: Path, recovered: Recovered) -> None:
    with running(recipe, cluster) as run:
        run.until_round(1)
        second = train(recipe, joining=cluster)
        assert second.returncode == 1
        assert "another process is running this run" in second.stderr
        assert run.wait() == 0, run.output
    same_end(run.folder, undisturbed)
    shutil.copytree(run.folder, run.folder.with_name("again"))
    changed = train(recipe, "name=again", "policy.learning_rate=0.5", joining=cluster)
    assert changed.returncode == 1
    assert "policy.learning_rate" in changed.stderr
