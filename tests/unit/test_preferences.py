"""A run's pairs as a preference dataset that `datasets` and TRL read."""

from dataclasses import replace
from pathlib import Path

import pytest

from rapo_ray.atomic import write_atomically
from rapo_ray.config import RunConfig
from rapo_ray.config.learning import CreditConfig
from rapo_ray.config.load import to_yaml
from rapo_ray.preferences import main
from rapo_ray.reward.credit import assign_credit
from rapo_ray.storage.rows import write_groups
from rapo_ray.types import Group
from tests.make import failed, make_group, make_prompt, scored

pytestmark = pytest.mark.unit


def spoken(group: Group) -> Group:
    """Every sample says its number."""
    samples = tuple(replace(s, rollout=replace(s.rollout, text=f"I am {s.rollout.sample}")) for s in group.samples_G)
    return replace(group, samples_G=samples)


def write_run(folder: Path) -> Path:
    """Two rounds: a clear pair and a tie; then a narrow pair with a failed verdict."""
    rounds = folder / "rounds"
    rounds.mkdir(parents=True)
    config = RunConfig.model_validate({"model": {"system_prompt": "Think."}})
    write_atomically(folder / "config.yaml", lambda temporary: temporary.write_text(to_yaml(config), encoding="utf-8"))
    clear = make_group(scored(-2.0), scored(2.0), scored(0.0), index=0)
    tie = make_group(scored(1.0), scored(1.0), index=1)
    narrow = make_group(failed(), scored(1.0), scored(2.0), prompt=make_prompt(2, harmful=True, level=3))
    for number, groups in enumerate([[clear, tie], [narrow]], start=1):
        spoken_groups = [spoken(group) for group in assign_credit(groups, CreditConfig())]
        write_groups(spoken_groups, rounds / f"round-{number:06d}.parquet")
    return folder


def test_pairs_are_written_as_conversations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from datasets import load_dataset

    run = write_run(tmp_path / "run")
    assert main([str(run)]) == 0
    assert capsys.readouterr().out.startswith("2 pairs of 3 groups: ")
    files = {"train": str(run / "preferences.parquet")}
    first, second = load_dataset("parquet", data_files=files, cache_dir=str(tmp_path / "cache"))["train"]
    assert first["prompt"] == [{"role": "system", "content": "Think."}, {"role": "user", "content": "text 0"}]
    assert first["chosen"] == [{"role": "assistant", "content": "I am 1"}]
    assert first["rejected"] == [{"role": "assistant", "content": "I am 0"}]
    assert (first["score_chosen"], first["score_rejected"], first["margin"]) == (2.0, -2.0, 4.0)
    assert (second["prompt_id"], second["harmful"], second["level"], second["round"]) == ("s/2", True, 3, 2)
    assert second["chosen"][0]["content"] == "I am 2"
    assert second["rejected"][0]["content"] == "I am 1"  # sample 0 has no verdict


def test_a_margin_drops_narrow_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(write_run(tmp_path / "run")), "--min-margin", "1.5", "--output", str(tmp_path / "p.parquet")]) == 0
    assert capsys.readouterr().out.startswith("1 pairs of 3 groups")


def test_a_folder_that_is_no_run_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert "holds no rounds/round-*.parquet" in error
    assert error.count("\n") == 1
