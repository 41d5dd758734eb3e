"""Agreement of two judges beyond chance."""

from dataclasses import replace

import pytest

from rapo_ray.judging.agreement import agreement, cohens_kappa
from tests.make import failed, make_sample, scored

pytestmark = pytest.mark.unit


def test_kappa_by_hand() -> None:
    # 20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no: 0.7 observed, 0.5 by chance.
    pairs = [(1, 1)] * 20 + [(1, 0)] * 5 + [(0, 1)] * 10 + [(0, 0)] * 15
    assert cohens_kappa(pairs) == pytest.approx(0.4)


def test_kappa_at_its_ends() -> None:
    assert cohens_kappa([(1, 1), (0, 0)]) == 1.0
    assert cohens_kappa([(1, 0), (0, 1)]) == -1.0
    assert cohens_kappa([(1, 0), (1, 1), (0, 0), (0, 1)]) == 0.0
    assert cohens_kappa([(1, 1), (1, 1)]) is None  # two constants agree by chance alone
    assert cohens_kappa([]) is None


def test_only_what_both_could_score_counts() -> None:
    verdicts = [
        replace(scored(2.0), second=scored(2.0)),
        replace(scored(-2.0), second=scored(-2.0)),
        replace(scored(2.0), second=failed()),
        replace(failed(), second=scored(2.0)),
        scored(1.0),
    ]
    metrics = agreement(make_sample(verdict) for verdict in verdicts)
    assert metrics == {
        "n": 2, "risk_kappa": 1.0, "risk_agreement": 1.0, "general_kappa": 1.0, "general_agreement": 1.0
    }  # fmt: skip
    assert agreement([])["general_agreement"] is None
