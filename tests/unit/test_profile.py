"""Times of a simulation: from a file, from a run, and what is said where neither will do."""

import json
from pathlib import Path

import pytest

from rapo_ray.errors import ConfigError
from rapo_ray.simulation.profile import Profile, read_profile

pytestmark = pytest.mark.unit


def run(folder: Path, rounds: int) -> Path:
    line = {
        "seconds": {"generate_and_judge": 20.0, "update": 40.0, "sync": 0.5},
        "lengths": {"completion_tokens": {"mean": 50.0, "p50": 48, "p95": 90, "max": 100}},
        "tokens_per_second": {"generate_and_judge": 240.0, "reference": 800.0, "update": 200.0},
    }
    folder.mkdir()
    (folder / "metrics.jsonl").write_text(f"{json.dumps(line)}\n" * rounds)
    (folder / "config.yaml").write_text(
        "prompts_per_round: 16\nsamples_per_prompt: 6\nrollout: {engines: 1, max_num_seqs: 48}\n"
        "reference: {actors: 2}\npolicy: {ranks: 4}\n"
    )
    return folder


def test_a_run_s_own_times(tmp_path: Path) -> None:
    found = read_profile(run(tmp_path / "run", rounds=2))
    assert found.step_seconds == pytest.approx(0.1)  # 20 s for two batches of at most 100 steps
    assert found.completion_tokens == 50
    assert (found.reference_tokens_per_second, found.update_tokens_per_second) == (400, 50)
    assert found.sync_seconds == 0.5


def test_a_file_s_times_over_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("step_seconds: 0.02\nupdate_tokens_per_second: null\n")
    found = read_profile(tmp_path / "p.yaml")
    assert (found.step_seconds, found.update_tokens_per_second) == (0.02, None)
    assert found.judge_seconds == Profile().judge_seconds


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("step_secs: 1\n", "step_secs: Extra inputs are not permitted (it is 1)"),
        ("step_seconds: -1\n", "step_seconds: Input should be greater than or equal to 0 (it is -1)"),
        ("[1\n", "is no YAML"),
    ],
)
def test_a_bad_file_is_one_line(content: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        read_profile(path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_neither_file_nor_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the profile .*; give a YAML file or a run"):
        read_profile(tmp_path / "nowhere.yaml")
    with pytest.raises(ConfigError, match="is no run with rounds"):
        read_profile(tmp_path)
    with pytest.raises(ConfigError, match="has no finished round"):
        read_profile(run(tmp_path / "run", rounds=0))
