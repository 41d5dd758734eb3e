"""Times of a simulation: from a file, from a run, and the message where neither will do."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from rapo_ray.config.load import load_config, to_yaml
from rapo_ray.errors import ConfigError
from rapo_ray.simulation.profile import Profile, read_profile
from rapo_ray.storage.json_records import to_json
from rapo_ray.storage.layout import RunLayout
from rapo_ray.storage.metrics import Lengths, Quantiles, measure_round
from rapo_ray.types import RoundResult, UpdateResult
from tests.make import make_group, scored

pytestmark = pytest.mark.unit


def run(folder: Path, rounds: int) -> Path:
    seconds = {"generate_and_judge": 20.0, "update": 40.0, "sync": 0.5}
    metrics = replace(
        measure_round(RoundResult(1, 0, (make_group(scored(1.0)),), UpdateResult(), seconds, 1, 20.0)),
        lengths=Lengths(Quantiles(mean=50.0, p50=48, p95=90, max=100), Quantiles()),
        tokens_per_second={"generate_and_judge": 240.0, "reference": 800.0, "update": 200.0},
    )
    config = load_config(
        "quickstart",
        ["prompts_per_round=16", "samples_per_prompt=6", "rollout.engines=1", "rollout.max_num_seqs=48",
         "reference.actors=2", "policy.ranks=4"],
    )  # fmt: skip
    folder.mkdir()
    RunLayout(folder).metrics.write_text(f"{json.dumps(to_json(metrics))}\n" * rounds)
    RunLayout(folder).config.write_text(to_yaml(config))
    return folder


def test_a_run_s_own_times(tmp_path: Path) -> None:
    profile = read_profile(run(tmp_path / "run", rounds=2))
    assert profile.step_seconds == pytest.approx(0.1)  # 20 s for two batches of at most 100 steps
    assert profile.completion_tokens == 50
    assert (profile.reference_tokens_per_second, profile.update_tokens_per_second) == (400, 50)
    assert profile.sync_seconds == 0.5


def test_a_file_s_times_over_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("step_seconds: 0.02\nupdate_tokens_per_second: null\n")
    profile = read_profile(tmp_path / "p.yaml")
    assert (profile.step_seconds, profile.update_tokens_per_second) == (0.02, None)
    assert profile.judge_seconds == Profile().judge_seconds


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("step_secs: 1\n", "step_secs: Extra inputs are not permitted (it is 1)"),
        ("step_seconds: -1\n", "step_seconds: Input should be greater than or equal to 0 (it is -1)"),
        ("[1\n", "is no YAML"),
    ],
)
def test_a_bad_file_is_one_line(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        read_profile(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_neither_file_nor_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the profile .*; give a YAML file or a run"):
        read_profile(tmp_path / "nowhere.yaml")
    with pytest.raises(ConfigError, match="is no run with rounds"):
        read_profile(tmp_path)
    with pytest.raises(ConfigError, match="has no finished round"):
        read_profile(run(tmp_path / "run", rounds=0))
