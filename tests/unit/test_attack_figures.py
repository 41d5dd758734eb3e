"""Figures of attacks in the rounds: series, the report's section and the terminal's line."""

from dataclasses import replace
from pathlib import Path

import pytest

from rapo_ray.attacks.attacked import under_chain
from rapo_ray.monitoring.series import SERIES, values
from rapo_ray.report import terminal, training_sections
from rapo_ray.report.parts import Chart, Table
from rapo_ray.storage.metrics import RoundMetrics, measure_round
from rapo_ray.storage.reader import Evidence
from rapo_ray.types import DroppedAttacks, RoundResult, UpdateResult
from tests.make import make_group, make_prompt, scored

pytestmark = pytest.mark.unit

HARMFUL, BENIGN = make_prompt(harmful=True), make_prompt(1)


def metrics_of(number: int = 3) -> RoundMetrics:
    """A round in which attacks of one family succeed half of the time, and twins are always answered."""
    attacked, twin = (under_chain(one, ("leet",), "bandit", 0, number) for one in (HARMFUL, BENIGN))
    groups_P = (
        make_group(scored(-2.0), scored(2.0), prompt=attacked),
        make_group(scored(2.0), scored(2.0), prompt=twin),
        make_group(scored(2.0), scored(2.0), prompt=HARMFUL),
        make_group(scored(2.0), scored(-2.0), prompt=BENIGN),
    )
    result = RoundResult(number, number - 1, groups_P, UpdateResult(), {"update": 1.0}, 8, 1.0)
    return measure_round(result, DroppedAttacks(too_long=2), 0.5)


def test_series() -> None:
    series = {(one.name.removeprefix("rapo_train_"), *one.tags.values()): one.value for one in values(metrics_of())}
    assert series["attack_success_share", "0"] == 0.0
    assert series["attack_success_share", "1"] == 0.5
    assert series["family_success_share", "leet"] == 0.5
    assert series["attacked_share",] == 0.5
    assert series["attacks_dropped", "too_long"] == 2
    assert series["twins_answered_share",] == 1.0
    assert series["over_refusal_multiplier",] == 0.5
    assert series["share", "over_refusal"] == 0.25
    assert {f"rapo_train_{name}" for name, *_ in series} <= {one.name for one in SERIES}


def test_a_round_without_an_attacker_has_none_of_them() -> None:
    plain = replace(metrics_of(), attacks=None, multiplier=None)
    names = {one.name for one in values(plain)}
    assert not any("attack" in name or "multiplier" in name or "twins" in name for name in names)
    assert terminal.attack_line(plain) is None


def test_the_terminal_s_line() -> None:
    assert terminal.attack_line(metrics_of()) == (
        "        attacked 50%; complied k=0 0%, k=1 50%; twins answered 100%; 2 too long; "
        "over-refusal 25%, multiplier 0.50"
    )
    assert terminal.attack_line(replace(metrics_of(), attacks=None)) == "        over-refusal 25%, multiplier 0.50"


def test_the_report_s_section() -> None:
    section = training_sections.attacks(Evidence(Path(), metrics=[metrics_of(number) for number in (1, 2, 3)]))
    success, bound, families = section.parts
    assert isinstance(success, Chart)
    assert isinstance(bound, Chart)
    assert isinstance(families, Table)
    assert success.data is not None
    assert bound.data is not None
    assert success.data.columns == ["round", "k = 0", "k = 1", "benign twins answered"]
    assert [cell.text for cell in success.data.rows[0]] == ["1", "0%", "50%", "100%"]
    assert [cell.text for cell in bound.data.rows[2]] == ["3", "0.25", "0.50"]
    assert [[cell.text for cell in row] for row in families.rows] == [["leet", "50%", "2", "50%", "4"]]


def test_a_run_without_attacks_says_so_in_the_section() -> None:
    plain = replace(metrics_of(), attacks=None, multiplier=None)
    section = training_sections.attacks(Evidence(Path(), metrics=[plain]))
    assert not section.parts
    assert "No attacker" in section.empty
