"""Checkpoints are whole or absent: full disks, damage of every kind, and deaths between the steps of a write."""

import hashlib
import json
import logging
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from rapo_ray.errors import ActorDied, CheckpointError, EngineError
from rapo_ray.roles import Saved
from rapo_ray.storage.checkpoint import MANIFEST, MARK, STATE, CheckpointStore, RunState
from rapo_ray.storage.json_records import from_json
from rapo_ray.trainer.files import hash_own_files

pytestmark = pytest.mark.unit

WAIT = 20.0  # seconds after which a test hangs no longer


class Killed(BaseException):
    """Stands for a death of the process: nothing may catch it."""


def state(number: int, config: str = "") -> RunState:
    """A run after a round, of a sampler that does not matter."""
    return RunState(config, number, {})


def saving(fill: Callable[[Path], None]) -> Callable[[Path], Saved]:
    """A policy's save whose files `fill` writes once something waits for them."""

    def save_policy(folder: Path) -> Saved:
        def saved() -> dict[str, str]:
            fill(folder)
            return hash_own_files(folder, 0)

        return saved

    return save_policy


def save(content: bytes) -> Callable[[Path], Saved]:
    """Save a policy of two files, one in a folder."""

    def fill(folder: Path) -> None:
        (folder / "rank").mkdir()
        (folder / "rank" / "model.bin").write_bytes(content)
        (folder / "random-0.bin").write_bytes(b"state")

    return saving(fill)


@saving
def save_to_a_full_disk(folder: Path) -> None:
    (folder / "small.bin").write_bytes(b"fits")
    (folder / "model.bin").symlink_to("/dev/full")
    with (folder / "model.bin").open("wb") as out:
        out.write(b"x" * 100_000)


def write(made: CheckpointStore, to_write: RunState, save_policy: Callable[[Path], Saved]) -> None:
    """Write a checkpoint to its end."""
    made.begin(to_write, save_policy)
    made.wait()


def store(folder: Path, rounds: int = 0, keep: int = 2) -> CheckpointStore:
    made = CheckpointStore(folder, keep)
    for number in range(1, rounds + 1):
        write(made, state(number), save(f"weights {number}".encode()))
    return made


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def latest_round(folder: Path) -> int | None:
    latest = CheckpointStore(folder, 2).latest()
    return latest.state.round if latest else None


def refusal(made: CheckpointStore) -> str:
    with pytest.raises(CheckpointError) as caught:
        made.latest()
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    after_3 = RunState("c0ffee", 3, {"epoch": 2, "content": "ü"})
    write(CheckpointStore(tmp_path, 2), after_3, save(b"weights"))
    read = CheckpointStore(tmp_path, 2).latest()
    assert read is not None
    assert (read.folder, read.state) == (tmp_path / "round-000003", after_3)
    assert (read.policy / "rank" / "model.bin").read_bytes() == b"weights"


def test_before_the_first_there_is_none(tmp_path: Path) -> None:
    assert CheckpointStore(tmp_path, 2).latest() is None
    assert CheckpointStore(tmp_path / "not made yet", 2).latest() is None


def test_the_newest_by_number_is_latest_and_older_ones_are_pruned(tmp_path: Path) -> None:
    store(tmp_path, rounds=12, keep=3)
    assert names(tmp_path) == ["round-000010", "round-000011", "round-000012"]
    assert latest_round(tmp_path) == 12


@pytest.mark.fault(7)
def test_a_full_disk_is_one_line_and_leaves_everything_as_it_was(tmp_path: Path) -> None:
    store(tmp_path, rounds=3, keep=3)
    with pytest.raises(CheckpointError) as caught:
        write(CheckpointStore(tmp_path, keep=1), state(4), save_to_a_full_disk)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert str(tmp_path / "round-000004") in message
    assert "the disk is full; the checkpoint of round 3 is kept" in message
    assert names(tmp_path) == ["round-000001", "round-000002", "round-000003"]  # no .tmp, and nothing was pruned
    assert latest_round(tmp_path) == 3
    write(CheckpointStore(tmp_path, keep=1), state(4), save(b"room again"))
    assert names(tmp_path) == ["round-000004"]


@pytest.mark.fault(7)
def test_a_full_disk_at_the_first_checkpoint_says_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="the disk is full; there is no earlier checkpoint"):
        write(CheckpointStore(tmp_path, 2), state(1), save_to_a_full_disk)
    assert names(tmp_path) == []


def failing(error: BaseException) -> Callable[[Path], Saved]:
    """Save half a policy."""

    @saving
    def fail(folder: Path) -> None:
        (folder / "half.bin").write_bytes(b"half")
        raise error

    return fail


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), EngineError("save of the policy failed")])
def test_a_save_that_fails_is_explained_and_cleaned_up(error: Exception, tmp_path: Path) -> None:
    made = store(tmp_path, rounds=1)
    with pytest.raises(CheckpointError) as caught:
        write(made, state(2), failing(error))
    assert str(error) in str(caught.value)
    assert "disk is full" not in str(caught.value)
    assert names(tmp_path) == ["round-000001"]


def flip(folder: Path) -> str:
    path = folder / "policy" / "rank" / "model.bin"
    content = bytearray(path.read_bytes())
    content[3] ^= 1
    path.write_bytes(content)
    return "policy/rank/model.bin does not have the SHA-256"


def truncate(folder: Path) -> str:
    os.truncate(folder / "policy" / "rank" / "model.bin", 2)
    return "policy/rank/model.bin has 2 bytes, 9 were written"


def delete(folder: Path) -> str:
    (folder / "policy" / "random-0.bin").unlink()
    return "policy/random-0.bin is missing"


def delete_state(folder: Path) -> str:
    (folder / STATE).unlink()
    return f"{STATE} is missing"


def change_state(folder: Path) -> str:
    text = (folder / STATE).read_text()
    (folder / STATE).write_text(text.replace("3", "4"))
    return f"{STATE} does not have the SHA-256"


def add(folder: Path) -> str:
    (folder / "policy" / "more.bin").write_bytes(b"")
    return f"policy/more.bin is not in {MANIFEST}"


def link(folder: Path) -> str:
    path = folder / "policy" / "rank" / "model.bin"
    outside = folder.parent / "outside.bin"
    path.rename(outside)
    path.symlink_to(outside)
    return "policy/rank/model.bin is missing, a link"


def link_folder(folder: Path) -> str:
    outside = folder.parent / "outside"
    (folder / "policy" / "rank").rename(outside)
    (folder / "policy" / "rank").symlink_to(outside)
    return "policy/rank/model.bin is missing, a link, or outside"


def add_link(folder: Path) -> str:
    (folder / "policy" / "more.bin").symlink_to("/nowhere")
    return f"policy/more.bin is not in {MANIFEST}"


def point_outside(folder: Path) -> str:
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["../outside.bin"] = manifest.pop("policy/random-0.bin")
    (folder / "policy" / "random-0.bin").rename(folder.parent / "outside.bin")
    (folder / MANIFEST).write_text(json.dumps(manifest))
    return "../outside.bin is missing, a link, or outside"


def no_manifest(folder: Path) -> str:
    (folder / MANIFEST).unlink()
    return f"{MANIFEST} cannot be read"


def manifest_of(text: str) -> Callable[[Path], str]:
    def damage(folder: Path) -> str:
        (folder / MANIFEST).write_text(text)
        return f"{MANIFEST} cannot be read"

    return damage


DAMAGES = [
    flip, truncate, delete, delete_state, change_state, add, link, link_folder, add_link, point_outside, no_manifest,
    *map(manifest_of, ("", "{", "[]", "5", '{"state.json": 5}', '{"state.json": [1]}', '{"state.json": "ab"}')),
]  # fmt: skip


@pytest.mark.fault(8)
@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found_and_named(damage: Callable[[Path], str], tmp_path: Path) -> None:
    made = store(tmp_path, rounds=3)
    what = damage(tmp_path / "round-000003")
    message = refusal(made)
    assert str(tmp_path / "round-000003") in message
    assert what in message
    assert "remove that folder to resume from round 2" in message


@pytest.mark.fault(8)
def test_damage_of_the_only_checkpoint_is_not_a_fresh_start(tmp_path: Path) -> None:
    made = store(tmp_path, rounds=1)
    flip(tmp_path / "round-000001")
    assert "resume from" not in refusal(made)


def test_following_the_advice_resumes_from_the_round_before(tmp_path: Path) -> None:
    made = store(tmp_path, rounds=3)
    flip(tmp_path / "round-000003")
    refusal(made)
    (tmp_path / "round-000003").rename(tmp_path / "set-aside")
    assert latest_round(tmp_path) == 2


def test_a_folder_without_its_mark_is_no_checkpoint(tmp_path: Path) -> None:
    made = store(tmp_path, rounds=2)
    (tmp_path / "round-000002" / MARK).unlink()
    assert latest_round(tmp_path) == 1
    write(made, state(2, "again"), save(b"again"))
    latest = made.latest()
    assert latest is not None
    assert latest.state == state(2, "again")


@pytest.mark.parametrize("name", ["round-2", "round-000009.tmp", "round-00000a", "round-0000009", "around-000009"])
def test_only_exact_names_count(name: str, tmp_path: Path) -> None:
    store(tmp_path, rounds=1)
    (tmp_path / name).mkdir()
    (tmp_path / name / MARK).touch()
    assert latest_round(tmp_path) == 1


@pytest.mark.fault(5)
def test_a_death_in_the_middle_of_saving_leaves_the_round_before(tmp_path: Path) -> None:
    made = store(tmp_path, rounds=1)
    with pytest.raises(Killed):
        write(made, state(2), failing(Killed()))
    assert latest_round(tmp_path) == 1
    write(made, state(2), save(b"again"))
    assert names(tmp_path) == ["round-000001", "round-000002"]
    assert not (tmp_path / "round-000002" / "policy" / "half.bin").exists()
    assert latest_round(tmp_path) == 2


def test_what_killed_writes_of_other_rounds_left_is_removed(tmp_path: Path) -> None:
    made = store(tmp_path, rounds=1)
    for name in ("round-000002.tmp", "round-000007.tmp"):
        (tmp_path / name / "policy").mkdir(parents=True)
        (tmp_path / name / "policy" / "half.bin").write_bytes(b"half")
    write(made, state(3), save(b"weights"))
    assert names(tmp_path) == ["round-000001", "round-000003"]


@pytest.mark.fault(5)
@pytest.mark.parametrize("after", [False, True])
def test_a_death_around_the_rename_leaves_the_round_before(
    after: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = store(tmp_path, rounds=1, keep=1)
    rename = os.replace

    def die(source: Path, target: Path) -> None:
        if after:
            rename(source, target)
        raise Killed

    monkeypatch.setattr(os, "replace", die)
    with pytest.raises(Killed):
        write(made, state(2), save(b"first"))
    monkeypatch.undo()
    assert (tmp_path / "round-000002").exists() is after
    assert latest_round(tmp_path) == 1
    write(made, state(2, "again"), save(b"again"))
    assert latest_round(tmp_path) == 2
    assert names(tmp_path) == ["round-000002"]


def test_everything_is_on_disk_before_the_rename_and_the_mark_comes_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[str] = []
    rename, fsync = os.replace, os.fsync

    def note_rename(source: Path, target: Path) -> None:
        assert not (Path(source) / MARK).exists()
        log.append("rename")
        rename(source, target)

    def note_fsync(descriptor: int) -> None:
        log.append(os.readlink(f"/proc/self/fd/{descriptor}").removeprefix(f"{tmp_path.resolve()}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "replace", note_rename)
    monkeypatch.setattr(os, "fsync", note_fsync)
    store(tmp_path, rounds=1)
    before, after = log[: log.index("rename")], log[log.index("rename") + 1 :]
    temporary = "/round-000001.tmp"
    files = (
        "",
        "/policy",
        "/policy/rank",
        "/policy/rank/model.bin",
        "/policy/random-0.bin",
        f"/{STATE}",
        f"/{MANIFEST}",
    )
    assert sorted(before) == sorted(f"{temporary}{file}" for file in files)
    assert after == ["/round-000001", ""]  # the mark's folder, then the folder of the renamed one


def test_the_manifest_has_size_and_sha256_of_every_file_as_it_always_had(tmp_path: Path) -> None:
    store(tmp_path, rounds=1)
    folder = tmp_path / "round-000001"
    entries = {
        name: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in (
            ("policy/random-0.bin", b"state"),
            ("policy/rank/model.bin", b"weights 1"),
            (STATE, b'{"attacker": null, "config": "", "multiplier": 0.0, "round": 1, "sampler": {}}'),
        )
    }
    assert (folder / MANIFEST).read_text() == json.dumps(entries, indent=1)


@pytest.mark.parametrize(
    ("sums", "problem"),
    [
        ({}, "policy/model.bin was hashed by no rank"),
        ({"model.bin": "0" * 64, "more.bin": "0" * 64}, "policy/more.bin was hashed, and is gone"),
    ],
)
def test_a_checkpoint_needs_one_hash_of_each_file(sums: dict[str, str], problem: str, tmp_path: Path) -> None:
    def save_policy(folder: Path) -> Saved:
        (folder / "model.bin").write_bytes(b"weights")
        return lambda: sums

    made = store(tmp_path, rounds=1)
    with pytest.raises(CheckpointError, match=problem):
        write(made, state(2), save_policy)
    assert names(tmp_path) == ["round-000001"]


class Slow:
    """A policy whose save ends when it is told to."""

    def __init__(self, error: Exception | None = None) -> None:
        self.may_end = threading.Event()
        self.error = error

    def save(self, folder: Path) -> Saved:
        """Begin to save."""

        @saving
        def fill(folder: Path) -> None:
            assert self.may_end.wait(WAIT)
            (folder / "model.bin").write_bytes(b"weights")
            if self.error is not None:
                raise self.error

        return fill(folder)


def test_a_write_in_flight_is_no_checkpoint_and_the_older_ones_stay(tmp_path: Path) -> None:
    made, policy = store(tmp_path, rounds=1, keep=1), Slow()
    made.begin(state(2), policy.save)  # returns before the save has ended
    assert latest_round(tmp_path) == 1  # of a run that is killed now
    assert names(tmp_path) == ["round-000001", "round-000002.tmp"]
    policy.may_end.set()
    made.wait()
    assert names(tmp_path) == ["round-000002"]
    assert latest_round(tmp_path) == 2


def test_the_next_write_begins_once_the_one_before_has_ended(tmp_path: Path) -> None:
    made, policy = store(tmp_path), Slow()
    made.begin(state(1), policy.save)
    second = threading.Thread(target=made.begin, args=(state(2), save(b"weights")))
    second.start()
    second.join(0.05)
    assert second.is_alive()
    assert names(tmp_path) == ["round-000001.tmp"]
    policy.may_end.set()
    second.join(WAIT)
    made.wait()
    assert names(tmp_path) == ["round-000001", "round-000002"]


def test_a_write_that_failed_is_told_by_the_next_and_only_once(tmp_path: Path) -> None:
    made = store(tmp_path, rounds=1)
    made.begin(state(2), save_to_a_full_disk)
    with pytest.raises(CheckpointError, match="round-000002: the disk is full; the checkpoint of round 1 is kept"):
        made.begin(state(3), save(b"weights"))
    made.wait()
    assert names(tmp_path) == ["round-000001"]


def test_a_policy_that_dies_while_it_saves_is_a_dead_actor_after_which_a_run_restarts(tmp_path: Path) -> None:
    made = store(tmp_path, rounds=1)
    with pytest.raises(ActorDied):
        write(made, state(2), failing(ActorDied("save of the policy failed, an actor died")))
    assert names(tmp_path) == ["round-000001"]


@pytest.mark.parametrize("stop", [None, KeyboardInterrupt(), EngineError("an engine died")])
def test_rounds_end_with_their_last_checkpoint_however_they_end(stop: BaseException | None, tmp_path: Path) -> None:
    made, policy = store(tmp_path), Slow()

    def rounds() -> None:
        with suppress(KeyboardInterrupt, EngineError), made.finishing():
            made.begin(state(1), policy.save)
            if stop is not None:
                raise stop

    ending = threading.Thread(target=rounds)
    ending.start()
    ending.join(0.05)
    assert ending.is_alive(), "it ended while its checkpoint was being written"
    policy.may_end.set()
    ending.join(WAIT)
    assert names(tmp_path) == ["round-000001"]
    assert latest_round(tmp_path) == 1


@pytest.mark.parametrize(
    ("stop", "raised"),
    [
        (None, CheckpointError),
        (EngineError("save of the policy failed"), CheckpointError),  # raised by the update that waited for it
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_a_failed_write_is_told_where_the_rounds_end(
    stop: BaseException | None, raised: type[BaseException], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = store(tmp_path, rounds=1)
    with caplog.at_level(logging.WARNING), pytest.raises(raised) as caught, made.finishing():
        made.begin(state(2), save_to_a_full_disk)
        if stop is not None:
            raise stop
    assert "the disk is full; the checkpoint of round 1 is kept" in f"{caught.value} {caplog.text}"


def test_an_interrupt_while_waiting_does_not_forget_the_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, policy = store(tmp_path), Slow()
    made.begin(state(1), policy.save)

    def interrupt(*_: object) -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr("rapo_ray.storage.checkpoint.Future.exception", interrupt)
    with pytest.raises(KeyboardInterrupt), made.finishing():
        policy.may_end.set()
        made.wait()
    assert latest_round(tmp_path) == 1


def test_a_state_of_an_earlier_version_has_no_attacker_and_no_multiplier() -> None:
    earlier = from_json(RunState, b'{"config": "", "round": 1, "sampler": {"epoch": 2}}')
    assert earlier == RunState("", 1, {"epoch": 2}, None, 0.0)
