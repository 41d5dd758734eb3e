"""A whole run on preference pairs with a flaky HTTP judge: canaries, a second judge, and no completion judged twice."""

import json
import shutil
import zlib
from pathlib import Path
from typing import Any

import pytest

from rapo_ray.config.learning import CreditConfig
from rapo_ray.reward.credit import assign_credit
from rapo_ray.storage.reader import read_groups
from rapo_ray.types import Group
from tests.e2e.conftest import Cluster, tiny_recipe, train
from tests.judge_server import JudgeServer, Scripted, completion, is_probe, judge_server, offered, probed

pytestmark = pytest.mark.e2e


def text_of(body: dict[str, Any]) -> str:
    """Complete text of a request's messages."""
    return "\n".join(str(message["content"]) for message in body["messages"])


def fails(text: str) -> bool:
    """True for three calls in ten, always the same ones."""
    return zlib.crc32(text.encode()) % 10 < 3


def script(body: dict[str, Any], before: int) -> Scripted:
    """Reply with an arbitrary but deterministic choice."""
    text = text_of(body)
    if fails(text):
        return Scripted(status=500)
    options = offered(text)
    return completion(options[zlib.crc32(text[::-1].encode()) % len(options)])


def survivors(group: Group) -> Group:
    """Copy of a group without its failed verdicts."""
    return Group(group.prompt, tuple(s for s in group.samples_G if s.verdict.scorable))


def test_dpo_with_a_flaky_judge_trains_on_the_survivors_and_judges_nothing_twice(
    warmed: dict[str, Any], tiny: Path, tmp_path: Path, cluster: Cluster
) -> None:
    with judge_server(probed(script)) as server:
        http = {"backend": "http", "model": "m", "url": server.url, "allow_private": True, "retries": 0}
        judge = {
            "risk": http,
            "second": {"backend": "rules"},
            "second_share": 1.0,
            "failure_budget": 1.0,  # all calls of a measurement may be among those that fail
            "canaries": {
                "every": 1, "min_true_positive_rate": 0, "max_false_positive_rate": 1, "max_flip_rate": 1,
            },
        }  # fmt: skip
        recipe = tiny_recipe(
            tiny,
            tmp_path,
            judge=judge,
            policy={"objective": "dpo", "importance_correction": "off"},
            **warmed,
        )
        done = train(recipe, joining=cluster)
        assert done.returncode == 0, done.stdout + done.stderr
        _check_records(tmp_path / "tiny")
        _check_resumption(recipe, tmp_path / "tiny", server, cluster)


def _check_records(run: Path) -> None:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["round"] for line in lines] == [1, 2]
    assert sum(line["update"]["pairs"] or 0 for line in lines) > 0
    assert sum(line["judge"]["statuses"]["transport"] for line in lines) > 0
    assert sum(line["judge"]["agreement"]["n"] for line in lines) > 0
    canaries = [json.loads(line) for line in (run / "canaries.jsonl").read_text().splitlines()]
    assert [line["round"] for line in canaries] == [1, 2]
    for path in sorted(run.glob("rounds/*.parquet")):
        groups_P = read_groups(path)
        recorded = [s.advantage for group in groups_P for s in group.samples_G if s.verdict.scorable]
        alone = assign_credit([survivors(group) for group in groups_P], CreditConfig())
        assert recorded == [s.advantage for group in alone for s in group.samples_G]
        failed = [s for group in groups_P for s in group.samples_G if not s.verdict.scorable]
        assert all(s.reward is None and s.advantage is None for s in failed)


def judged(run: Path) -> list[tuple[Any, ...]]:
    """Completions of round 2 with their verdicts."""
    groups_P = read_groups(run / "rounds" / "round-000002.parquet")
    return [(s.rollout.text, s.verdict.risk, s.verdict.general) for group in groups_P for s in group.samples_G]


def _check_resumption(recipe: Path, run: Path, server: JudgeServer, cluster: Cluster) -> None:
    """Resume as if killed after the last verdict of round 2: the round is redone, only failed calls are repeated."""
    shutil.rmtree(run / "checkpoints" / "round-000002")
    (run / "summary.json").unlink()
    before = judged(run)
    known = {text_of(body) for body in server.requests}
    server.requests.clear()
    done = train(recipe, joining=cluster)
    assert done.returncode == 0, done.stdout + done.stderr
    assert judged(run) == before
    repeated = {text_of(body) for body in server.requests if not is_probe(body)}
    assert repeated <= known
    assert all(fails(text) for text in repeated)
