"""Alarms: each begins and ends by hand-made rounds, noise raises none, and one that is set to stop ends the run."""

import random
from dataclasses import replace

import pytest

from rapo_ray.config.alarms import AlarmName, AlarmsConfig
from rapo_ray.errors import AlarmRaised, RapoError
from rapo_ray.monitoring.alarms import CHECKS, NAMES, Alarms, line
from rapo_ray.statistics import share_change, wilson_bounds
from rapo_ray.storage.metrics import LevelMetrics, RoundMetrics, Tally, measure_round
from rapo_ray.storage.records import AlarmChange, active_alarms
from rapo_ray.types import RoundResult, UpdateResult
from tests.make import make_group, scored

pytestmark = pytest.mark.unit

BASE = measure_round(RoundResult(1, 0, (make_group(scored(1.0)),), UpdateResult(), {}, 1, 0.0))
PROMPTS, SAMPLES = 6, 6  # of a level in a round, half of them benign
ROUNDS = 4  # of a window


def level(adequate: float = 0.8, benign: float = 0.8, sentences: float | None = 3.0) -> LevelMetrics:
    """Completions to six prompts with these shares."""

    def tally(share: float, prompts: int) -> Tally:
        return Tally(round(share * prompts * SAMPLES), prompts * SAMPLES, prompts)

    traces = 0 if sentences is None else PROMPTS * SAMPLES
    return LevelMetrics(
        benign_answered=tally(benign, PROMPTS // 2), harmful_refused=tally(0.8, PROMPTS // 2),
        adequate=tally(adequate, PROMPTS), trace_sentences=sentences, traces=traces,
    )  # fmt: skip


HEALTHY = {"1": level(), "2": level(sentences=6.0), "3": level(sentences=11.0)}


def rounds(
    count: int, levels: dict[str, LevelMetrics] = HEALTHY, risk: float = 0.5, general: float = 0.5,
    entropy: float | None = 0.8, consistent: float | None = None,
) -> list[RoundMetrics]:  # fmt: skip
    """So many rounds that are all alike."""
    one = replace(
        BASE,
        levels=levels,
        reward=replace(BASE.reward, risk=risk, general=general),
        update=replace(BASE.update, entropy=entropy),
        shares=replace(BASE.shares, consistent=consistent),
    )
    return [one] * count


def raised(*parts: list[RoundMetrics], **settings: object) -> list[tuple[int, str, str]]:
    """Changes of alarms over rounds that follow each other: round, name, state."""
    alarms = Alarms(AlarmsConfig.model_validate({"window": ROUNDS, **settings}))
    every = [replace(one, round=number) for number, one in enumerate((one for part in parts for one in part), start=1)]
    return [(change.round, change.name, change.state) for one in every for change in alarms.observe(one)]


def named(*parts: list[RoundMetrics], **settings: object) -> list[tuple[str, str]]:
    return [(name, state) for _, name, state in raised(*parts, **settings)]


def test_healthy_rounds_raise_nothing() -> None:
    assert raised(rounds(40)) == []
    assert set(NAMES) == set(CHECKS) == set(AlarmsConfig.model_fields) - {"window"}


SILENT = {name: replace(one, benign_answered=Tally(0, 18, 3)) for name, one in HEALTHY.items()}


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("always_refuse", {}, {"levels": SILENT}),
        ("always_refuse", {}, {"levels": {**HEALTHY, "3": replace(HEALTHY["3"], benign_answered=Tally(0, 18, 3))}}),
        ("depth_collapse", {}, {"levels": {**HEALTHY, "2": level(adequate=0.3, sentences=6.0)}}),
        ("depth_collapse", {}, {"levels": {**HEALTHY, "3": level(adequate=0.5, sentences=3.0)}}),
        ("contradictory_traces", {"consistent": 0.95}, {"consistent": 0.4}),
        ("parts_diverge", {"risk": 0.5, "general": -0.2}, {"risk": -0.2, "general": 0.5}),
        ("parts_diverge", {"risk": -0.4, "general": 0.5}, {"risk": 0.5, "general": -0.4}),
        ("entropy_collapse", {"entropy": 0.8}, {"entropy": 0.1}),
    ],
)
def test_each_alarm_begins_and_ends(name: str, before: dict[str, object], after: dict[str, object]) -> None:
    parts = [rounds(8, **before), rounds(8, **after), rounds(8, **before)]  # type: ignore[arg-type]
    assert named(*parts) == [(name, "began"), (name, "over")]


@pytest.mark.parametrize(
    ("name", "always"),
    [
        ("always_refuse", {"levels": SILENT}),
        ("depth_collapse", {"levels": {**HEALTHY, "3": level(adequate=0.0, sentences=11.0)}}),
        ("depth_collapse", {"levels": {**HEALTHY, "3": level(sentences=3.5)}}),
        ("contradictory_traces", {"consistent": 0.3}),
    ],
)
def test_a_bound_needs_one_full_window(name: str, always: dict[str, object]) -> None:
    assert raised(rounds(ROUNDS - 1, **always)) == []  # type: ignore[arg-type]
    assert raised(rounds(ROUNDS, **always)) == [(ROUNDS, name, "began")]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "worst", "near"),  # near the bound: would not begin there, and is not over
    [
        ("entropy_collapse", {"entropy": 0.1}, {"entropy": 0.28}),
        ("depth_collapse", {"levels": {**HEALTHY, "3": level(sentences=3.0)}},
         {"levels": {**HEALTHY, "3": level(sentences=4.5)}}),
        ("depth_collapse", {"levels": {**HEALTHY, "2": level(adequate=0.1, sentences=6.0)}},
         {"levels": {**HEALTHY, "2": level(adequate=0.5, sentences=6.0)}}),
        ("contradictory_traces", {"consistent": 0.4}, {"consistent": 0.72}),
        ("parts_diverge", {"risk": 1.0, "general": -0.2}, {"risk": 0.8, "general": 0.2}),
    ],
)  # fmt: skip
def test_an_alarm_does_not_come_and_go_near_its_bound(
    name: str, worst: dict[str, object], near: dict[str, object]
) -> None:
    healthy = rounds(8, consistent=0.95)
    assert named(healthy, rounds(8, **near)) == []  # type: ignore[arg-type]
    assert named(healthy, rounds(8, **worst), rounds(8, **near)) == [(name, "began")]  # type: ignore[arg-type]


def test_benign_prompts_that_are_missing_are_an_alarm_of_their_own() -> None:
    nobody = {name: replace(one, benign_answered=Tally(0, 0, 0)) for name, one in HEALTHY.items()}
    assert raised(rounds(ROUNDS, levels=nobody)) == [(ROUNDS, "always_refuse", "began")]
    harmless = {name: replace(one, harmful_refused=Tally(0, 0, 0)) for name, one in HEALTHY.items()}
    assert raised(rounds(9, levels=harmless)) == []
    few = {"1": replace(HEALTHY["1"], benign_answered=Tally(0, 0, 0), harmful_refused=Tally(9, 12, 2))}
    assert raised(rounds(9, levels=few)) == []


def test_truncated_traces_are_a_collapse_though_they_have_no_length() -> None:
    cut = {name: level(adequate=0.0, sentences=None) for name in HEALTHY}
    assert raised(rounds(ROUNDS, levels=cut)) == [(ROUNDS, "depth_collapse", "began")]


def test_parts_that_move_together_do_not_diverge() -> None:
    assert raised(rounds(8, risk=-0.4, general=-0.4), rounds(8, risk=0.6, general=0.6)) == []
    assert raised(rounds(8, risk=0.0, general=0.0), rounds(8, risk=0.6, general=-0.05)) == []  # G within its noise


def test_a_line_says_what_the_value_since_when_and_what_to_do() -> None:
    alarms = Alarms(AlarmsConfig(window=2))
    for number, one in enumerate([*rounds(2), *rounds(2, levels=SILENT)], start=1):
        changes = alarms.observe(replace(one, round=number))
    (change,) = changes
    assert line(change) == (
        "ALARM always_refuse since round 4: benign prompts answered 0% in rounds 3-4, 78% in rounds 1-2: "
        "balance benign and harmful prompts in data.train, or lower policy.learning_rate"
    )
    assert line(replace(change, state="over", round=9)) == "alarm always_refuse is over after round 9"


def test_an_alarm_may_be_off_and_one_that_is_switched_off_is_over() -> None:
    assert raised(rounds(9, levels=SILENT), always_refuse="off") == []
    began = AlarmChange(round=3, name="always_refuse", state="began", message="m")
    alarms = Alarms(AlarmsConfig(always_refuse="off"), rounds(4, levels=SILENT), [began])
    assert "always_refuse" not in alarms.watched()
    assert alarms.observe(rounds(1)[0]) == [replace(began, round=1, state="over")]


def test_a_resumed_run_neither_repeats_nor_forgets() -> None:
    config = AlarmsConfig(window=ROUNDS)
    history = [replace(one, round=number) for number, one in enumerate(rounds(5, levels=SILENT), start=1)]
    whole = Alarms(config)
    changes = [change for one in history for change in whole.observe(one)]
    assert len(changes) == 1
    resumed = Alarms(config, history, changes)
    assert resumed.active == whole.active
    assert resumed.observe(replace(history[-1], round=6)) == []
    assert resumed.watched() == {name: name == "always_refuse" for name in NAMES}


def test_rounds_of_earlier_versions_are_left_out() -> None:
    assert raised(rounds(9, levels={}, entropy=0.8), rounds(3, entropy=0.1)) == []


def test_only_an_alarm_that_is_set_to_stop_ends_the_run() -> None:
    began = AlarmChange(round=7, name="always_refuse", state="began", message="nobody is answered")
    Alarms(AlarmsConfig(), changes=[began]).check()
    Alarms(AlarmsConfig(depth_collapse="stop"), changes=[began]).check()
    with pytest.raises(AlarmRaised) as caught:
        Alarms(AlarmsConfig(always_refuse="stop"), changes=[began]).check()
    assert isinstance(caught.value, RapoError)
    assert str(caught.value) == (
        "round 7: alarm always_refuse stops the run (alarms.always_refuse=stop): nobody is answered; "
        "with alarms.always_refuse=warn the same command goes on from the last checkpoint"
    )
    Alarms(AlarmsConfig(always_refuse="stop"), changes=[began, replace(began, state="over")]).check()


def test_active_alarms_by_hand() -> None:
    def change(number: int, name: AlarmName, state: str) -> AlarmChange:
        return AlarmChange(round=number, name=name, state=state, message="")  # type: ignore[arg-type]

    changes = [change(1, "always_refuse", "began"), change(2, "depth_collapse", "began"),
               change(3, "always_refuse", "over"), change(4, "always_refuse", "began")]  # fmt: skip
    assert {name: one.round for name, one in active_alarms(changes).items()} == {
        "depth_collapse": 2, "always_refuse": 4
    }  # fmt: skip


def noisy(generator: random.Random, shares: tuple[float, float], likeness: float) -> RoundMetrics:
    """A round of 16 prompts of random level and kind; samples of a prompt are alike by so much (beta-binomial)."""
    counts = {name: {kind: [0, 0, 0] for kind in ("benign", "harmful", "adequate")} for name in HEALTHY}
    risk, general = [], []

    def count(share: float) -> int:
        weight = (1 - likeness) / likeness
        own = generator.betavariate(share * weight, (1 - share) * weight)
        return sum(generator.random() < own for _ in range(SAMPLES))

    for _ in range(16):
        name, kind = generator.choice("123"), generator.choice(("benign", "harmful"))
        adequate, good = count(shares[0]), count(shares[1])
        for part, value in (("adequate", adequate), (kind, good)):
            old = counts[name][part]
            counts[name][part] = [old[0] + value, old[1] + SAMPLES, old[2] + 1]
        risk.append(adequate / SAMPLES)
        general.append(2 * good / SAMPLES - 1)
    levels = {
        name: LevelMetrics(
            benign_answered=Tally(*each["benign"]), harmful_refused=Tally(*each["harmful"]),
            adequate=Tally(*each["adequate"]), trace_sentences=generator.gauss(4.0 * int(name), 1.5),
            traces=each["adequate"][1],
        )
        for name, each in counts.items()
    }  # fmt: skip
    return rounds(1, levels, sum(risk) / 16, sum(general) / 16, generator.uniform(0.6, 1.0), generator.uniform(0.8, 1))[
        0
    ]


@pytest.mark.parametrize("shares", [(0.5, 0.6), (0.8, 0.9)])
def test_noise_raises_an_alarm_in_at_most_one_run_of_twenty(shares: tuple[float, float]) -> None:
    alarmed = 0
    for seed in range(40):
        generator, alarms = random.Random(seed), Alarms(AlarmsConfig())
        alarmed += any(alarms.observe(noisy(generator, shares, likeness=0.5)) for _ in range(30))
    assert alarmed <= 2


def test_a_real_fall_is_seen_through_the_noise() -> None:
    seen = 0
    for seed in range(20):
        generator, alarms = random.Random(seed), Alarms(AlarmsConfig())
        for number in range(16):
            alarms.observe(noisy(generator, (0.6, 0.7) if number < 6 else (0.1, 0.7), likeness=0.5))
        seen += list(alarms.active) == ["depth_collapse"]
    assert seen >= 18


def test_the_change_of_a_share_by_hand() -> None:
    """Newcombe 1998, table II, method 10: 56/70 against 48/80 has [0.0524, 0.3339]."""
    assert share_change(48 / 80, 80, 56 / 70, 70) == pytest.approx((0.0524, 0.3339), abs=1e-4)
    low, high = share_change(0.5, 9, 0.5, 9, 3.0)
    assert -low == high > share_change(0.5, 9, 0.5, 9)[1] > 0
    assert wilson_bounds(0.5, 9, 3.0)[0] < wilson_bounds(0.5, 9)[0]
