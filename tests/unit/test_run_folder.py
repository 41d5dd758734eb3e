"""A run on disk: one owner, one config, and records that go back to the last checkpoint."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from rapo_ray.config import RunConfig
from rapo_ray.config.load import load_config
from rapo_ray.errors import ConfigError, ReportError
from rapo_ray.monitoring.status import facts, read_status
from rapo_ray.statistics import Interval
from rapo_ray.storage.metrics import measure_round
from rapo_ray.storage.reader import read_alarms, read_config, read_evidence, read_groups, read_lines
from rapo_ray.storage.records import AlarmChange, Delta, LeftOutRow, RunSummary
from rapo_ray.storage.run_folder import RunFolder
from rapo_ray.types import RoundResult, UpdateResult
from tests.make import make_group, scored

pytestmark = pytest.mark.unit


def config(out: Path, *overrides: str) -> RunConfig:
    return load_config("quickstart", [f"out={out}", *overrides])


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[RunFolder]:
    made = RunFolder(config(tmp_path))
    made.open()
    yield made
    made.close()


def result(number: int) -> RoundResult:
    return RoundResult(
        number, number - 1, (make_group(scored(float(number)), scored(0.0)),), UpdateResult(), {}, 2, 0.0
    )


def record(folder: RunFolder, *numbers: int) -> None:
    for number in numbers:
        metrics = measure_round(result(number))
        folder.record(result(number), replace(metrics, seconds={"ü\u2028": 1.0}))


def recorded(folder: RunFolder) -> list[int]:
    return [json.loads(line)["round"] for line in (folder.path / "metrics.jsonl").read_text().split("\n") if line]


def round_names(folder: RunFolder) -> list[str]:
    return sorted(path.name for path in folder.rounds.iterdir())


def test_opening_makes_the_folders_and_writes_the_resolved_config(folder: RunFolder, tmp_path: Path) -> None:
    assert folder.path == tmp_path / "quickstart"
    assert all(path.is_dir() for path in (folder.rounds, folder.heldout, folder.checkpoints))
    assert load_config(str(folder.path / "config.yaml")) == config(tmp_path)


@pytest.mark.fault(20)
def test_a_second_opener_is_refused_until_the_first_closes(folder: RunFolder, tmp_path: Path) -> None:
    second = RunFolder(config(tmp_path))
    with pytest.raises(ConfigError, match="another process is running this run") as caught:
        second.open()
    assert str(folder.path) in str(caught.value)
    second.close()
    folder.close()
    second.open()
    second.close()


def test_another_run_beside_it_is_not_refused(folder: RunFolder, tmp_path: Path) -> None:
    other = RunFolder(config(tmp_path, "name=other"))
    other.open()
    other.close()


def test_a_refused_second_opener_changes_nothing(folder: RunFolder, tmp_path: Path) -> None:
    before = (folder.path / "config.yaml").read_text()
    with pytest.raises(ConfigError):
        RunFolder(config(tmp_path, "seed=9")).open()
    assert (folder.path / "config.yaml").read_text() == before


def test_closing_twice_is_as_good_as_once(folder: RunFolder) -> None:
    folder.close()
    folder.close()


@pytest.mark.fault(20)
def test_a_changed_config_is_refused_by_key_and_the_lock_given_back(folder: RunFolder, tmp_path: Path) -> None:
    folder.close()
    changed = RunFolder(
        config(tmp_path, "policy.learning_rate=1e-3", "seed=4", "judge.general.backend=rules", "limits.sync=9")
    )
    with pytest.raises(ConfigError) as caught:
        changed.open()
    message = str(caught.value)
    assert "(changed: judge.general, policy.learning_rate, seed)" in message
    assert len(message.splitlines()) == 1
    folder.open()  # with the old config it goes on


def test_what_shapes_no_result_may_change_and_is_written_down(folder: RunFolder, tmp_path: Path) -> None:
    folder.close()
    changes = ["limits.update=99", "alarms.always_refuse=stop", "checkpoint.keep=7", "rollout.enforce_eager=true"]
    again = RunFolder(config(tmp_path, *changes))
    again.open()
    again.close()
    written = load_config(str(folder.path / "config.yaml"))
    assert (written.limits.update, written.checkpoint.keep) == (99, 7)


def test_a_round_is_kept_as_rows_and_a_line(folder: RunFolder) -> None:
    record(folder, 1, 2)
    assert recorded(folder) == [1, 2]
    assert round_names(folder) == ["round-000001.parquet", "round-000002.parquet"]
    (group,) = read_groups(folder.rounds / "round-000002.parquet")
    assert [sample.verdict.risk for sample in group.samples_G] == [1.0, -1.0]


def test_lines_are_appended_after_a_reopening(folder: RunFolder, tmp_path: Path) -> None:
    record(folder, 1)
    folder.close()
    folder.open()
    record(folder, 2)
    assert recorded(folder) == [1, 2]


def test_rounds_after_the_checkpoint_are_forgotten(folder: RunFolder) -> None:
    record(folder, 1, 2, 3, 12)
    (folder.rounds / "round-000013.parquet.tmp").write_bytes(b"half a file")
    alarms = [AlarmChange(round=one, name="always_refuse", state="began", message="m") for one in (2, 3)]
    for change in alarms:
        folder.record_alarm(change)
    folder.forget_after(2)
    assert recorded(folder) == [1, 2]
    assert read_alarms(folder.alarms) == alarms[:1]
    assert round_names(folder) == ["round-000001.parquet", "round-000002.parquet"]
    record(folder, 3)
    assert recorded(folder) == [1, 2, 3]


def test_evaluations_of_weights_that_are_forgotten_are_forgotten(folder: RunFolder) -> None:
    for name in ("round-000000", "round-000002", "round-000004", "by-hand"):
        layout = folder.evaluation(name)
        layout.path.mkdir(parents=True)
        layout.results.write_text("{}")
    folder.forget_after(2)
    assert sorted(path.name for path in folder.evaluations.iterdir()) == ["by-hand", "round-000000", "round-000002"]


@pytest.mark.parametrize("name", ["round-xyz", "round-xyz.parquet", "round-000009.notes", "round-"])
def test_a_foreign_file_among_the_rounds_is_left_alone(name: str, folder: RunFolder) -> None:
    record(folder, 3)
    (folder.rounds / name).touch()
    folder.forget_after(2)
    assert round_names(folder) == [name]


@pytest.mark.parametrize("torn", ['{"round": 2, "text', '{"round', "{", '{"round": null}', "[2]", '{"rounds": 1}'])
def test_a_torn_last_line_is_dropped(torn: str, folder: RunFolder) -> None:
    record(folder, 1)
    with (folder.path / "metrics.jsonl").open("a") as out:
        out.write(torn)
    folder.forget_after(2)
    record(folder, 2)
    assert recorded(folder) == [1, 2]


def test_forgetting_everything_and_forgetting_nothing(folder: RunFolder) -> None:
    folder.forget_after(0)
    record(folder, 1, 2)
    folder.forget_after(2)
    assert recorded(folder) == [1, 2]
    folder.forget_after(0)
    assert recorded(folder) == []
    assert round_names(folder) == []


def test_a_summary_says_that_the_run_is_finished(folder: RunFolder) -> None:
    assert folder.finished() is None
    summary = RunSummary({}, Delta(Interval(0.5, (0.25, 0.75))), {"all": 1.5})
    folder.publish_summary(summary)
    assert folder.finished() == summary
    assert not list(folder.path.glob("*.tmp"))


def test_a_half_filled_folder_is_cleared(folder: RunFolder) -> None:
    temporary = folder.clear_partial(folder.model)
    assert temporary.parent == folder.model.parent
    temporary.mkdir()
    (temporary / "half.bin").write_bytes(b"half")
    assert folder.clear_partial(folder.model) == temporary
    assert not temporary.exists()


def test_a_finished_run_is_not_written_to(folder: RunFolder, tmp_path: Path) -> None:
    folder.publish_summary(RunSummary({}, Delta(Interval()), {}))
    folder.close()
    before = folder.config.read_bytes()
    again = RunFolder(config(tmp_path, "evaluation.every=4", "gates.asr=0.1"))
    again.open()
    assert folder.config.read_bytes() == before
    assert again.not_applied() == ["evaluation.every", "gates.asr"]
    again.close()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ConfigError("two\nlines of ours"), "two lines of ours"),
        (OSError("disk full"), "disk full"),
        (ValueError("a completion: do harm"), "ValueError, an error of the program: see its log"),
    ],
)
def test_a_failure_leaves_its_reason_until_the_run_goes_on(
    error: Exception, reason: str, folder: RunFolder, tmp_path: Path
) -> None:
    folder.record_failure(error)
    folder.close()
    status = read_status(folder.path)
    assert (status.state, status.over) == ("failed", True)
    assert ("reason", reason) in facts(status)
    folder.open()
    assert read_status(folder.path).state == "running"
    folder.close()
    assert read_status(folder.path).state == "stopped"


def test_seconds_of_all_processes_are_there_for_the_next(folder: RunFolder, tmp_path: Path) -> None:
    assert folder.earlier_seconds() == {}
    folder.record_seconds({"rounds": 1.5, "all": 2.0})
    assert RunFolder(config(tmp_path)).earlier_seconds() == {"rounds": 1.5, "all": 2.0}


def test_a_folder_with_keys_of_another_version_stays_readable(folder: RunFolder, tmp_path: Path) -> None:
    text = folder.config.read_text().replace("rollout:\n", "rollout:\n  of_tomorrow: 1\n") + "new_section:\n  a: 1\n"
    folder.config.write_text(text)
    folder.close()
    assert read_config(folder.config) == config(tmp_path)
    assert read_status(folder.path).state == "stopped"
    assert read_evidence(folder.path).config == config(tmp_path)
    folder.config.write_text(text.replace("seed: ", "seed: x"))
    with pytest.raises(ReportError, match="seed"):
        read_config(folder.config)


def test_what_a_run_goes_on_without_is_listed(folder: RunFolder) -> None:
    folder.record_left_out([LeftOutRow(place="mine/3", reason="too long")])
    assert read_lines(LeftOutRow, folder.left_out) == [LeftOutRow(place="mine/3", reason="too long")]
    folder.record_left_out([])
    assert folder.left_out.read_text() == ""


CONTENT = {"model": "m1", "data.train": "t1", "data.heldout": "h1"}
MOVES = ["name=other", "model.path=elsewhere/model", "data.sources.mine={kind: file, path: moved.csv}"]


def moved(folder: RunFolder, tmp_path: Path, content: dict[str, str] | None, *settings: str) -> str:
    """Rename the folder and open it under its new name with moved files; what is refused, or nothing."""
    folder.path.rename(tmp_path / "other")
    again = RunFolder(config(tmp_path, *(settings or MOVES)))
    try:
        again.open(content)
    except ConfigError as error:
        return str(error)
    finally:
        again.close()
    return ""


@pytest.fixture
def started(tmp_path: Path) -> RunFolder:
    made = RunFolder(config(tmp_path))
    made.open(CONTENT)
    made.close()
    return made


def test_a_renamed_run_with_moved_files_of_the_same_content_goes_on(started: RunFolder, tmp_path: Path) -> None:
    assert moved(started, tmp_path, CONTENT) == ""


def test_other_content_under_any_path_is_refused_by_name(started: RunFolder, tmp_path: Path) -> None:
    line = moved(started, tmp_path, CONTENT | {"model": "m2", "data.heldout": "h2"}, "name=other")
    assert "(changed: content of data.heldout, content of model)" in line


def test_a_moved_file_whose_content_nobody_recorded_is_refused_but_a_new_name_is_not(
    folder: RunFolder, tmp_path: Path
) -> None:
    folder.close()
    assert "(changed: data.sources.mine, model.path)" in moved(folder, tmp_path, CONTENT)
    (tmp_path / "other").rename(folder.path)
    assert moved(folder, tmp_path, CONTENT, "name=other") == ""


def test_a_refused_run_is_not_written_to(started: RunFolder, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in started.path.iterdir() if path.is_file()}
    assert moved(started, tmp_path, CONTENT | {"model": "m2"})
    other = tmp_path / "other"
    assert {path.name: path.read_bytes() for path in other.iterdir() if path.is_file()} == before
