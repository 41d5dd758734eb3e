"""The status of a run, from its folder alone."""

import io
import json
import os
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from rapo_ray import console
from rapo_ray.config.load import load_config
from rapo_ray.evaluation.gate import Gate
from rapo_ray.monitoring.status import facts, newest_run, read_status
from rapo_ray.status import main
from rapo_ray.storage.json_records import to_json
from rapo_ray.storage.records import Best
from rapo_ray.storage.run_folder import RunFolder
from tests.report_data import write_everything, write_run

pytestmark = pytest.mark.unit


def unfinished(out: Path, rounds: int = 3) -> Path:
    folder = write_run(out, rounds)
    (folder / "summary.json").unlink()
    return folder


def rows(folder: Path) -> dict[str, str]:
    return dict(facts(read_status(folder)))


def test_a_finished_run(tmp_path: Path) -> None:
    folder = write_everything(tmp_path)
    (folder / "report.html").touch()
    (folder / "best").mkdir()
    best = Best(4, 0.2, Gate("pass", True, "model", []))
    (folder / "best" / "best.json").write_text(json.dumps(to_json(best)))
    checkpoint = folder / "checkpoints" / "round-000008"
    checkpoint.mkdir()
    (checkpoint / "COMPLETE").touch()
    (folder / "checkpoints" / "round-000009").mkdir()  # being written
    shown_facts = rows(folder)
    assert shown_facts["state"] == "finished"
    assert shown_facts["round"] == "8 of 8"
    assert shown_facts["weights"].startswith("version 7 ")
    assert shown_facts["alarm"].startswith("depth_collapse since round 6: traces are short")
    assert shown_facts["adequate"].startswith("level 1 ") and "level 3 " in shown_facts["benign answered"]
    assert "level 2 " in shown_facts["sentences"]
    heldout = [text for name, text in facts(read_status(folder)) if name == "held-out"]
    assert len(heldout) == 8
    assert heldout[0].startswith("opposite trace followed: base -, sft 0.") and ", rapo 0." in heldout[0]
    assert heldout[1].startswith("monitor's accuracy: base ")
    assert shown_facts["checkpoint"] == "after round 8"
    assert shown_facts["evaluation"].startswith("after round 8: attack success 0.")
    assert ", opposite trace followed 0." in shown_facts["evaluation"]
    assert "gate inconclusive; best so far: round 4" in shown_facts["evaluation"]
    assert "generate and judge 32.0" in shown_facts["seconds"]
    assert shown_facts["report"] == (folder / "report.html").as_uri()


def test_a_run_is_running_while_its_lock_is_held(tmp_path: Path) -> None:
    folder = unfinished(tmp_path)
    run = RunFolder(load_config(str(folder / "config.yaml")))
    run.open()
    assert rows(folder)["state"].startswith("running, last wrote 0 s ago")
    assert rows(folder)["round"] == "3 of 3"
    run.close()
    assert rows(folder)["state"] == "stopped"
    assert rows(folder)["report"] == f"python -m rapo_ray.report {folder}"
    run.open()  # looking took nothing away
    run.close()


def test_a_copy_without_its_lock_says_when_it_last_wrote(tmp_path: Path) -> None:
    folder = unfinished(tmp_path)
    (folder / ".lock").unlink()
    for path in folder.iterdir():
        os.utime(path, (0, path.stat().st_mtime - 7200))
    assert rows(folder)["state"] == "unknown (the folder was copied without its lock), last wrote 2 h ago"


def test_a_run_that_has_just_begun(tmp_path: Path) -> None:
    folder = unfinished(tmp_path)
    (folder / "metrics.jsonl").unlink()
    shown_facts = rows(folder)
    assert shown_facts["round"] == "0 of 3"
    assert "reward" not in shown_facts and "alarm" not in shown_facts
    assert (shown_facts["checkpoint"], shown_facts["evaluation"]) == ("none", "none")


def test_half_a_line_is_left_out(tmp_path: Path) -> None:
    folder = unfinished(tmp_path)
    with (folder / "metrics.jsonl").open("a") as out:
        out.write('{"round": 4, "rew')
    assert rows(folder)["round"] == "3 of 3"


def shown(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, str]:
    out = io.StringIO()
    monkeypatch.setattr(console, "out", Console(file=out, width=100))
    return main(list(arguments)), out.getvalue()


def test_the_command_takes_a_folder_a_name_or_the_newest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = unfinished(tmp_path)
    new = shutil.copytree(old, tmp_path / "new")
    for path in old.iterdir():
        os.utime(path, (0, 0))
    assert newest_run(tmp_path) == new
    below = ("--out", str(tmp_path))
    for arguments, folder in (((str(old),), old), (("mine", *below), old), (below, new)):
        status, text = shown(monkeypatch, *arguments)
        assert status == 0
        assert text.startswith(str(folder)[:60])
        assert "stopped" in text


def test_following_ends_with_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = unfinished(tmp_path)
    run = RunFolder(load_config(str(folder / "config.yaml")))
    run.open()
    monkeypatch.setattr("rapo_ray.status.time.sleep", lambda seconds: run.close())  # it stops between two looks
    status, text = shown(monkeypatch, str(folder), "--follow")
    assert status == 0
    assert "stopped" in text


@pytest.mark.parametrize(("arguments", "line"), [(["nowhere"], "no config.yaml is in it"), ([], "no run is below it")])
def test_no_run_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], line: str
) -> None:
    assert main([*arguments, "--out", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and line in error and len(error.splitlines()) == 1
