"""Series and sinks: a round's metrics as series, and that no sink can hold a run up or end it."""

import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rapo_ray.config import RunConfig
from rapo_ray.config.alarms import AlarmName
from rapo_ray.config.load import load_config
from rapo_ray.errors import ConfigError
from rapo_ray.judging.canaries import CanaryReport
from rapo_ray.monitoring import watchers
from rapo_ray.monitoring.lasting import Lasting
from rapo_ray.monitoring.series import (
    RESTARTS,
    ROUNDS,
    SERIES,
    alarm_values,
    canary_values,
    idle_shares,
    trace_values,
    values,
)
from rapo_ray.monitoring.sinks import Figures, flatten, open_sinks
from rapo_ray.monitoring.watchers import Delivery, Watchers
from rapo_ray.storage.json_records import to_json
from rapo_ray.storage.metrics import RoundMetrics, measure_round
from rapo_ray.types import RoundResult, UpdateResult
from tests.report_data import groups
from tests.unit.test_attack_figures import metrics_of as attacked_metrics

pytestmark = pytest.mark.unit

SECONDS = {"generate_and_judge": 40.0, "reference": 10.0, "update": 45.0, "sync": 5.0}
SUMS = {
    "tokens": 100.0, "kl": 20.0, "entropy": 50.0, "entropy_tokens": 100.0, "clipped": 5.0, "gap": 1.0,
    "gap_tokens": 100.0, "gap_max": 0.25, "loss": 0.8, "optimizer_steps": 2.0, "grad_norm": 3.0, "learning_rate": 1e-4,
}  # fmt: skip


def metrics_of(seconds: dict[str, float] = SECONDS, drawing: float = 40.0, **sums: float) -> RoundMetrics:
    result = RoundResult(3, 2, groups(8, 4, 5), UpdateResult(sums or SUMS), seconds, 16, drawing)
    return measure_round(result)


def series_of(metrics: RoundMetrics) -> dict[tuple[str, ...], float | None]:
    return {(each.name.removeprefix("rapo_train_"), *each.tags.values()): each.value for each in values(metrics)}


def test_a_round_s_metrics_as_series() -> None:
    metrics = metrics_of()
    series = series_of(metrics)
    assert series["round",] == 3
    assert series["weights_version",] == 2
    assert series["reward", "risk"] == metrics.reward.risk
    assert series["cases", "1", "adequate"] == metrics.level_by_case["1"]["adequate"] > 0
    assert series["share", "malformed"] == metrics.shares.malformed > 0
    assert series["share", "consistent"] == metrics.shares.consistent
    assert series["decisions", "refuse"] == metrics.decisions["refuse"] > 0
    assert series["completion_tokens", "p95"] == metrics.lengths.completion_tokens.p95
    assert series["kl_nats",] == 0.2
    assert series["logprob_gap_nats", "max"] == 0.25
    assert series["loss",] == 0.4
    assert series["phase_seconds", "update"] == 45.0
    assert series["tokens_per_second", "generate_and_judge"] == metrics.tokens.generated / 40
    assert series["verdicts_total", "timeout"] == metrics.judge.statuses["timeout"] > 0
    assert series["tokens_total", "judged"] == metrics.judge.tokens > 0
    assert ("judge_kappa", "risk") in series  # there is a second judge
    assert series["idle_share", "policy"] == 0.5


WATCHED: dict[AlarmName, bool] = {"always_refuse": True, "depth_collapse": False}


def test_the_mechanism_by_level_and_the_alarms_as_series() -> None:
    metrics = metrics_of()
    series = series_of(metrics)
    tally = metrics.levels["1"].adequate
    assert series["level_share", "1", "adequate"] == tally.count / tally.n > 0
    assert series["level_share", "2", "benign_answered"] is not None
    assert series["level_sentences", "3"] == metrics.levels["3"].trace_sentences
    assert [(one.tags["alarm"], one.value) for one in alarm_values(WATCHED)] == [
        ("always_refuse", 1.0), ("depth_collapse", 0.0)
    ]  # fmt: skip


def test_each_value_is_of_a_declared_series_with_its_tags() -> None:
    canaries = CanaryReport(0.9, None, 0.0, 3, {})
    declared = {series.name: set(series.tags) for series in SERIES}
    made = {
        each.name: set(each.tags)
        for each in [
            *values(attacked_metrics()), *values(metrics_of()), *canary_values(canaries, 30), *alarm_values(WATCHED),
            *trace_values("heldout", {"opposite": 0.5}, None),
        ]
    }  # fmt: skip
    assert made == {name: tags for name, tags in declared.items() if name not in (ROUNDS, RESTARTS)}
    assert [each.value for each in canary_values(canaries, 30)] == [0.9, None, 0.0, 0.1]
    assert [(each.tags, each.value) for each in trace_values("suites", {"cut": 0.5}, 0.75)] == [
        ({"prompts": "suites", "kind": "cut"}, 0.5), ({"prompts": "suites"}, 0.75)
    ]  # fmt: skip


def test_a_round_that_learned_nothing_has_gaps_and_no_update() -> None:
    series = series_of(metrics_of({"generate_and_judge": 9.0, "sync": 1.0}, 9.0, tokens=0.0))
    assert series["kl_nats",] is None
    assert ("phase_seconds", "update") not in series
    assert ("idle_share", "reference") not in series


@pytest.mark.parametrize(
    ("seconds", "drawing", "expected"),
    [
        (SECONDS, 40.0, {"rollout": 0.55, "judge": 0.6, "reference": 0.9, "policy": 0.5}),
        # collected beside the update: the round waited 2 s for it, it took 40
        ({**SECONDS, "generate_and_judge": 2.0}, 40.0,
         {"rollout": 1 - 45 / 62, "judge": 1 - 40 / 62, "reference": 1 - 10 / 62, "policy": 1 - 50 / 62}),
        ({"generate_and_judge": 1.0, "sync": 1.0}, 9.0, {"rollout": 0.0, "judge": 0.0, "policy": 0.5}),
        ({}, 0.0, {}),
    ],
)  # fmt: skip
def test_idle_shares(seconds: dict[str, float], drawing: float, expected: dict[str, float]) -> None:
    assert idle_shares(seconds, drawing) == pytest.approx(expected)


def test_flatten_keeps_numbers_only() -> None:
    tree = {"round": 3, "a": {"b": 0.5, "c": None, "d": {"e": 2}}, "text": "x", "flag": True}
    assert flatten(tree) == {"round": 3.0, "a/b": 0.5, "a/d/e": 2.0}
    assert all(math.isfinite(value) for value in flatten(to_json(metrics_of())).values())


@dataclass
class FakeLibrary:
    """Stands for tensorboardX, wandb and mlflow at once: records the calls."""

    calls: list[tuple[str, Any]] = field(default_factory=list)
    entities: Any = field(default_factory=lambda: SimpleNamespace(Metric=lambda *parts: parts))

    def SummaryWriter(self, folder: str, purge_step: int) -> Any:
        self.calls.append(("open", (folder, purge_step)))
        return SimpleNamespace(
            add_scalar=lambda *scalar: self.calls.append(("scalar", scalar)),
            flush=lambda: self.calls.append(("flush", None)),
            close=lambda: self.calls.append(("close", None)),
        )

    def Settings(self, **settings: Any) -> dict[str, Any]:
        return settings

    def init(self, **settings: Any) -> Any:
        self.calls.append(("init", settings))
        return SimpleNamespace(
            define_metric=lambda *names, **more: self.calls.append(("define", (names, more))),
            log=lambda figures: self.calls.append(("log", figures)),
            finish=lambda: self.calls.append(("finish", None)),
        )

    def MlflowClient(self, tracking_uri: str) -> Any:
        def note(name: str, answer: Any = None) -> Callable[..., Any]:
            return lambda *args, **more: (self.calls.append((name, (*args, *more.values()))), answer)[1]

        self.calls.append(("client", tracking_uri))
        return SimpleNamespace(
            get_experiment_by_name=note("find"),
            create_experiment=note("create", "7"),
            create_run=note("run", SimpleNamespace(info=SimpleNamespace(run_id="r1"))),
            log_batch=note("batch"),
            set_terminated=note("end"),
        )


def config_with(tmp_path: Path, *sinks: str) -> RunConfig:
    return load_config("quickstart", [f"out={tmp_path}", "name=mine", *(f"sinks.{sink}" for sink in sinks)])


def calls_of(config: RunConfig) -> list[tuple[str, Any]]:
    """Calls that a library gets for two rounds."""
    library = FakeLibrary()
    ((_, sink),) = open_sinks(config, lambda package: library)
    sink.write(5, {"reward/total": 0.5})
    sink.write(6, {"reward/total": 0.75})
    sink.close()
    return library.calls


def test_tensorboard_gets_scalars_and_takes_back_what_is_made_again(tmp_path: Path) -> None:
    assert calls_of(config_with(tmp_path, "tensorboard=true")) == [
        ("open", (str(tmp_path / "mine" / "tensorboard"), 5)),
        ("scalar", ("reward/total", 0.5, 5)), ("flush", None),
        ("scalar", ("reward/total", 0.75, 6)), ("flush", None), ("close", None),
    ]  # fmt: skip


def test_wandb_gets_rounds_as_its_axis(tmp_path: Path) -> None:
    (_, start), *rest = calls_of(config_with(tmp_path, "wandb=safety"))
    assert (start["project"], start["name"], start["group"]) == ("safety", "mine", "mine")
    assert start["config"]["seed"] == 0
    assert rest == [
        ("define", (("*",), {"step_metric": "round"})),
        ("log", {"reward/total": 0.5, "round": 5}), ("log", {"reward/total": 0.75, "round": 6}), ("finish", None),
    ]  # fmt: skip


def test_mlflow_gets_a_batch_a_round(tmp_path: Path) -> None:
    calls = calls_of(config_with(tmp_path, "mlflow=http://127.0.0.1:5000"))
    assert [name for name, _ in calls] == ["client", "find", "create", "run", "batch", "batch", "end"]
    assert calls[0] == ("client", "http://127.0.0.1:5000")
    assert calls[3] == ("run", ("7", "mine"))
    run, ((name, value, milliseconds, step),) = calls[5][1]
    assert (run, name, value, step) == ("r1", "reward/total", 0.75, 6)
    assert isinstance(milliseconds, int)


@pytest.mark.parametrize(
    ("setting", "package"),
    [("tensorboard=true", "tensorboardX"), ("wandb=p", "wandb"), ("mlflow=sqlite:///m.db", "mlflow")],
)
def test_a_missing_library_says_what_to_install(tmp_path: Path, setting: str, package: str) -> None:
    def missing(name: str) -> Any:
        raise ImportError(f"No module named {name!r}")

    with pytest.raises(ConfigError) as caught:
        Watchers(config_with(tmp_path, setting), load=missing)
    assert str(caught.value).endswith(f"pip install {package}")
    assert len(str(caught.value).splitlines()) == 1


def test_a_sink_that_does_not_open_is_one_line(tmp_path: Path) -> None:
    def refuse(**settings: Any) -> Any:
        raise RuntimeError("no key\nset WANDB_API_KEY")

    library = SimpleNamespace(init=refuse, Settings=dict)
    with pytest.raises(ConfigError, match=r"sinks.wandb cannot be opened: RuntimeError: no key set WANDB_API_KEY"):
        list(open_sinks(config_with(tmp_path, "wandb=p"), lambda package: library))


def test_nothing_is_imported_that_is_not_configured(tmp_path: Path) -> None:
    def unwanted(name: str) -> Any:
        raise AssertionError(name)

    assert list(open_sinks(config_with(tmp_path), unwanted)) == []


def test_a_password_is_not_written_down(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"sinks.mlflow.*MLFLOW_TRACKING_PASSWORD"):
        config_with(tmp_path, "mlflow=https://me:secret@host")


@dataclass
class Unreachable:
    """A sink whose network is gone, or that hangs until it is let go."""

    hangs: bool = False
    free: threading.Event = field(default_factory=threading.Event)
    tried: int = 0

    def write(self, number: int, figures: Figures) -> None:
        self.tried += 1
        if self.hangs:
            self.free.wait(30)
        raise ConnectionError("no route\nto host")

    def close(self) -> None:
        raise ConnectionError("no route to host")


def test_a_lost_sink_warns_once_and_is_tried_again() -> None:
    warnings: list[str] = []
    sink = Unreachable()
    delivery = Delivery("mlflow", sink, warnings.append)
    delivery.put(1, {})
    delivery.put(2, {})
    delivery.close(10)
    assert sink.tried == 2
    assert warnings == ["warning: sinks.mlflow lost figures, the run goes on: ConnectionError: no route to host"]


def test_a_sink_that_hangs_is_left_behind() -> None:
    warnings: list[str] = []
    sink = Unreachable(hangs=True)
    delivery = Delivery("wandb", sink, warnings.append)
    delivery.put(1, {})
    delivery.close(0.05)
    assert warnings == ["warning: sinks.wandb: not done after 0.05 s, the last figures may be missing"]
    sink.free.set()


@dataclass
class FakeGauge:
    """Keeps what it was set to, and says when it was set as often as wanted."""

    wanted: int
    seen: list[float] = field(default_factory=list)
    enough: threading.Event = field(default_factory=threading.Event)

    def set(self, value: float, tags: Any = None) -> None:
        self.seen.append(value)
        if len(self.seen) >= self.wanted:
            self.enough.set()


def test_gauges_are_set_again_until_they_are_replaced_or_let_go() -> None:
    lasting, first, second = Lasting(every=0.005), FakeGauge(3), FakeGauge(3)
    lasting.hold("round", [(first, 1.0, {})])
    assert first.enough.wait(5)
    lasting.hold("round", [(second, 2.0, {})])
    times = len(first.seen)
    assert second.enough.wait(5)
    lasting.close()
    assert set(first.seen) == {1.0}
    assert set(second.seen) == {2.0}
    assert len(first.seen) == times
    times = len(second.seen)
    assert not threading.Event().wait(0.02)
    assert len(second.seen) == times


@dataclass
class FakeExporter:
    """In the place of Ray's metrics."""

    calls: list[Any] = field(default_factory=list)

    def round(self, metrics: RoundMetrics) -> None:
        self.calls.append(metrics.round)

    def canaries(self, report: CanaryReport, canaries: int) -> None:
        self.calls.append(canaries)

    def alarms(self, watched: Mapping[AlarmName, bool]) -> None:
        self.calls.append(watched)

    def traces(self, prompts: str, shares: Mapping[str, float | None], accuracy: float | None) -> None:
        self.calls.append((prompts, shares, accuracy))

    def close(self) -> None:
        self.calls.append("closed")


def test_watchers_tell_metrics_and_sinks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exporter, library = FakeExporter(), FakeLibrary()
    monkeypatch.setattr(watchers, "Exporter", lambda run, rounds: exporter)
    watching = Watchers(config_with(tmp_path, "wandb=p"), load=lambda package: library)
    with watching.exporting():
        watching.canaries(3, CanaryReport(None, None, 0.25, 2, {"forged": 0.5}), 30)
        watching.round(metrics_of())
        watching.alarms(3, WATCHED)
        watching.traces("heldout", {"opposite": 1.0}, 0.5)
    watching.close()
    assert exporter.calls == [30, 3, WATCHED, ("heldout", {"opposite": 1.0}, 0.5), "closed"]
    logged = [figures for name, figures in library.calls if name == "log"]
    assert logged[0] == {
        "canaries/flip_rate": 0.25, "canaries/unscorable": 2.0, "canaries/by_kind/forged": 0.5, "round": 3
    }  # fmt: skip
    assert logged[1] == flatten(to_json(metrics_of()))
    assert logged[2] == {"alarms/always_refuse": 1.0, "alarms/depth_collapse": 0.0, "round": 3}
