"""A checkpoint is saved beside the next round: what goes on meanwhile, what waits, and what a failure stops."""

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from actors.training_group import PolicyGroup
from rapo_ray.config import RunConfig
from rapo_ray.config.learning import PolicyConfig
from rapo_ray.config.run import LimitsConfig
from rapo_ray.data.sampler import PromptSampler
from rapo_ray.errors import CheckpointError, JudgeError
from rapo_ray.judging.canaries import CanaryReport
from rapo_ray.models.chat import PLAIN
from rapo_ray.orchestrator.prompts import TrainingPrompts
from rapo_ray.pipeline.inputs import Inputs
from rapo_ray.pipeline.session import Session
from rapo_ray.roles import Saved
from rapo_ray.storage.checkpoint import CheckpointStore
from rapo_ray.storage.metrics import RoundMetrics
from rapo_ray.storage.reader import read_metrics
from rapo_ray.storage.run_folder import RunFolder
from rapo_ray.trainer.files import hash_own_files, write_random_states, writer_of
from rapo_ray.types import Prompt, Rollout, Sequence, UpdateResult
from tests.make import failed, make_prompt, scored
from tests.unit.test_orchestrator import World, by_sample, play

pytestmark = pytest.mark.unit

WAIT = 20.0  # seconds after which a test hangs no longer
ROUNDS = 3


class NoWatchers:
    """Watchers without Ray and without sinks."""

    def round(self, metrics: RoundMetrics) -> None:
        """Ignore a round."""

    def canaries(self, number: int, report: CanaryReport, canaries: int) -> None:
        """Ignore a measurement."""

    def alarms(self, number: int, active: Mapping[str, bool]) -> None:
        """Ignore the alarms."""


class SlowlySaving(World):
    """A policy whose save ends only once the next round is being generated, or evaluated after the last."""

    def __init__(self, failing_round: int | None = None) -> None:
        super().__init__(version=0)
        self.failing_round = failing_round
        self.weights = 0
        self.next_round = threading.Event()

    def generate(self, prompts_P: list[Prompt], samples: range, round_number: int) -> Iterator[list[Rollout]]:
        """Generate, after which the save may end."""
        self.calls.append("generate")
        yield from super().generate(prompts_P, samples, round_number)
        self.next_round.set()

    def save(self, folder: Path) -> Saved:
        """Begin to save the weights of this moment, as a rank would that takes one call at a time."""
        number = self.version
        self.saving = True
        self.calls.append("save")
        self.next_round.clear()
        sums: dict[str, str] = {}
        errors: list[Exception] = []

        def work() -> None:
            assert self.next_round.wait(WAIT), "the save was waited for before the next round"
            (folder / "model").write_text(f"weights {self.weights}")
            sums.update(hash_own_files(folder, 0))
            self.calls.append("saved")
            if number == self.failing_round:
                errors.append(OSError(28, "No space left on device"))

        thread = threading.Thread(target=work)
        thread.start()

        def saved() -> dict[str, str]:
            thread.join()
            if errors:
                raise errors[0]
            return sums

        self.saved = saved
        return saved

    def wait_for_save(self) -> None:
        """Wait for it."""
        self.saved()
        super().wait_for_save()

    def update(self, sequences: list[Sequence]) -> UpdateResult:
        """Change the weights, which no save may see."""
        self.weights += 1
        return super().update(sequences)

    def sync(self, version: int) -> None:
        """Let the engines have them."""
        super().sync(version)
        self.version = version


@dataclass
class Run:
    """The rounds of a run in a folder, with these roles and without Ray."""

    world: SlowlySaving
    out: Path
    every: int = 1
    evaluated: list[int] = field(default_factory=list)

    def play(self) -> None:
        """Go from the newest checkpoint to the end."""
        config = RunConfig.model_validate(
            {
                "out": str(self.out),
                "rounds": ROUNDS,
                "prompts_per_round": 2,
                "samples_per_prompt": 2,
                "checkpoint": {"every": self.every, "keep": 9},
            }
        )
        self.folder = RunFolder(config)
        self.folder.open()
        session = Session(config, self.folder, Inputs([], [], [], [], []), NoWatchers(), self.out, PLAIN)  # type: ignore[arg-type]
        prompts = TrainingPrompts(PromptSampler([make_prompt(number) for number in range(5)], 2, 0), None)
        self.store = CheckpointStore(self.folder.checkpoints, 9)

        def evaluate(number: int) -> None:
            self.evaluated.append(number)
            if number == ROUNDS:
                self.world.next_round.set()

        with self.store.finishing():
            session._rounds(self.world.inference(), self.world.learner(), prompts, self.store, 0, evaluate)


def test_the_next_round_is_generated_beside_the_save_and_its_update_waits(tmp_path: Path) -> None:
    run = Run(SlowlySaving(), tmp_path)
    run.play()  # the fake's save ends after the next round has been generated
    phases = [call for call in run.world.phases() if call != "reference"]
    between = ["save", "generate", "saved", "wait", "update", "sync"]
    assert phases == ["generate", "update", "sync", *between, *between, "save", "saved"]
    assert run.evaluated == [1, 2, 3]


def test_a_checkpoint_has_weights_and_sampler_of_its_own_round(tmp_path: Path) -> None:
    run = Run(SlowlySaving(), tmp_path)
    run.play()
    for number in range(ROUNDS, 0, -1):
        latest = run.store.latest()
        assert latest is not None
        assert latest.state.round == number
        assert (latest.policy / "model").read_text() == f"weights {number}"
        places = (int(latest.state.sampler["epoch"]), int(latest.state.sampler["position"]))
        assert places == divmod(2 * number, 5)
        latest.folder.rename(tmp_path / f"seen-{number}")


def test_the_wait_for_a_save_is_a_phase_of_its_own_in_the_rounds_that_have_one(tmp_path: Path) -> None:
    run = Run(SlowlySaving(), tmp_path, every=2)
    run.play()
    seconds = [one.seconds for one in read_metrics(run.folder.metrics)]
    assert ["checkpoint" in each for each in seconds] == [False, False, True]
    assert all({"generate_and_judge", "update", "sync"} <= each.keys() for each in seconds)


def test_a_full_disk_stops_the_next_round_before_its_update(tmp_path: Path) -> None:
    run = Run(SlowlySaving(failing_round=2), tmp_path)
    with pytest.raises(CheckpointError, match="round-000002: the disk is full; the checkpoint of round 1 is kept"):
        run.play()
    assert run.world.synced == [1, 2]
    assert run.world.weights == 2
    latest = run.store.latest()
    assert latest is not None
    assert latest.state.round == 1


def test_a_run_that_fails_in_the_next_round_has_the_checkpoint(tmp_path: Path) -> None:
    world = SlowlySaving()
    world.judgement = lambda response: failed() if world.version == 2 else by_sample(response)
    run = Run(world, tmp_path)
    with pytest.raises(JudgeError):
        run.play()
    latest = run.store.latest()
    assert latest is not None
    assert latest.state.round == 2


@dataclass
class Rank:
    """An actor handle whose calls are noted."""

    log: list[str]

    def __getattr__(self, method: str) -> Any:
        return Call(method, self.log)


@dataclass
class Call:
    method: str
    log: list[str]

    def remote(self, *arguments: object) -> Any:
        self.log.append(self.method)
        return {"own": "sum"} if self.method == "save" else {"tokens": 1.0}


CALLS: list[tuple[str, Callable[[PolicyGroup], object]]] = [
    ("update", lambda group: group.update([])),
    ("load", lambda group: group.load(Path("folder"))),
    ("export", lambda group: group.export(Path("folder"), "float32")),
    ("send_weights", lambda group: group.send_weights(1)),
    ("send_weights", lambda group: group.resend(0)),
    ("weight_checksums", lambda group: group.weight_checksums("float32")),
    ("save", lambda group: group.save(Path("folder"))),
]


@pytest.mark.parametrize(("method", "call"), CALLS)
def test_nothing_is_sent_to_a_policy_before_its_save_has_ended(
    method: str, call: Callable[[PolicyGroup], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[str] = []

    def wait(refs: list[Any], limit: float, what: str, setting: str) -> list[Any]:
        if refs:
            log.append(f"wait for {what} {setting}={limit:g}")
        return refs

    monkeypatch.setattr("actors.training_group.get_all", wait)
    group = PolicyGroup([Rank(log)], PolicyConfig(), LimitsConfig(update=7, sync=5))
    group.send_weights(0)
    log.clear()
    group.save(Path("folder"))
    assert log == ["save"], "it waited at once"
    assert group.saving
    call(group)
    assert log[1:3] == ["wait for save of the policy limits.update=7", method]
    assert group.saving is (method == "save")


def test_a_failed_save_fails_all_that_comes_later(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []

    def wait(refs: list[Any], *limits: object) -> list[Any]:
        if refs:
            raise OSError(28, "No space left on device")
        return refs

    monkeypatch.setattr("actors.training_group.get_all", wait)
    group = PolicyGroup([Rank(log)], PolicyConfig(), LimitsConfig())
    group.save(Path("folder"))
    for _ in range(2):
        with pytest.raises(OSError, match="No space left"):
            group.update([])
    assert log == ["save"]


def test_ranks_that_write_on_other_disks_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.training_group.get_all", lambda refs, *limits: refs)
    group = PolicyGroup([Rank([])], PolicyConfig(), LimitsConfig())
    with pytest.raises(CheckpointError, match="policy-0 wrote elsewhere"):
        group.save(tmp_path)()
    (tmp_path / "own").touch()
    assert group.save(tmp_path)() == {"own": "sum"}


def test_every_name_has_one_writer(tmp_path: Path) -> None:
    writers = {
        "mp_rank_00_model_states.pt": 0,
        "zero_to_fp32.py": 0,
        "zero_pp_rank_0_mp_rank_00_optim_states.pt": 0,
        "bf16_zero_pp_rank_12_mp_rank_00_optim_states.pt": 12,
        "zero_pp_rank_1_mp_rank_00_model_states.pt": 1,
        "random-12.safetensors": 12,
    }
    assert {name: writer_of(name) for name in writers} == writers
    (tmp_path / "policy").mkdir()
    for name in writers:
        (tmp_path / "policy" / name).write_text(name)
    hashed = [list(hash_own_files(tmp_path, rank)) for rank in range(13)]
    assert sorted(name for own in hashed for name in own) == sorted(f"policy/{name}" for name in writers)


def test_a_rank_never_lists_what_another_is_writing(tmp_path: Path) -> None:
    """Rank 1 writes its random state over and over; rank 0's listings see no name that has no writer."""
    states, finished = {"torch": torch.zeros(1 << 16, dtype=torch.uint8)}, threading.Event()
    seen: set[str] = set()

    def write() -> None:
        for _ in range(300):
            write_random_states(tmp_path, 1, states)
        finished.set()

    thread = threading.Thread(target=write)
    thread.start()
    while not finished.is_set():
        seen.update(path.name for path in tmp_path.iterdir())
        assert hash_own_files(tmp_path, 0) == {}
    thread.join()
    assert seen <= {"random-1.safetensors"}


def test_no_round_waits_for_a_save_that_is_not_there() -> None:
    world = World(judgement=lambda response: scored(1.0))
    assert "checkpoint" not in play(world).seconds
    assert "wait" not in world.calls
