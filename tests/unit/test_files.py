"""Files appear atomically: the old one until the rename, the content synced before it and the folder after it."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from rapo_ray.atomic import write_atomically
from rapo_ray.config import RunConfig
from rapo_ray.data.quickstart_set import Demonstration
from rapo_ray.statistics import Interval
from rapo_ray.storage.records import Delta, RunSummary
from rapo_ray.storage.rows import write_groups
from rapo_ray.storage.run_folder import RunFolder
from rapo_ray.warmup.demonstrations import write_demonstrations
from tests.make import OK_TEXT, make_group, make_prompt, scored

pytestmark = pytest.mark.unit


def by_parquet(folder: Path) -> Path:
    write_groups([make_group(scored(1.0))], folder / "round-000001.parquet")
    return folder / "round-000001.parquet"


def by_demonstrations(folder: Path) -> Path:
    write_demonstrations([Demonstration(make_prompt(), OK_TEXT)], folder / "demonstrations.jsonl")
    return folder / "demonstrations.jsonl"


def by_summary(folder: Path) -> Path:
    run = RunFolder(RunConfig(out=folder.parent, name=folder.name))
    run.publish_summary(RunSummary({}, Delta(Interval()), {}))
    return run.summary


@pytest.mark.parametrize("write", [by_parquet, by_demonstrations, by_summary])
def test_a_file_is_on_disk_before_it_has_its_name_and_the_name_after(
    write: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[str] = []
    rename, fsync = os.replace, os.fsync

    def note_rename(source: Path, target: Path) -> None:
        log.append(f"{Path(source).name} to {Path(target).name}")
        rename(source, target)

    def note_fsync(descriptor: int) -> None:
        log.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    monkeypatch.setattr(os, "replace", note_rename)
    monkeypatch.setattr(os, "fsync", note_fsync)
    path = write(tmp_path)
    assert log == [f"{path.name}.tmp", f"{path.name}.tmp to {path.name}", tmp_path.resolve().name]
    assert list(tmp_path.iterdir()) == [path]


def test_a_death_while_filling_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "kept.txt"
    path.write_text("old")

    def die(temporary: Path) -> None:
        temporary.write_text("ha")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, die)
    assert path.read_text() == "old"
    write_atomically(path, lambda temporary: temporary.write_text("new"))
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]
