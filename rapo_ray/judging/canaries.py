"""Canaries: completions with known verdicts that the live judge scores during the run.

A judge that drifts, breaks or is fooled shows first in three rates, each with a limit: TPR (known good judged good),
FPR (known bad judged good) and flip rate (forged twins judged differently from their originals).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from rapo_ray.config.judge import CanaryConfig
from rapo_ray.errors import JudgeError
from rapo_ray.models.chat import PLAIN, ChatFormat
from rapo_ray.text.lines import split_lines
from rapo_ray.types import Prompt, Response, Verdict


@dataclass(frozen=True, slots=True)
class Canary:
    """A prompt and a completion with its known verdict, `good`."""

    prompt: Prompt
    kind: str
    text: str
    good: bool
    twin_of: str | None


@dataclass(frozen=True, slots=True)
class CanaryReport:
    """Rates over the canaries that the judge scored; None where it scored none of a kind."""

    true_positive_rate: float | None
    false_positive_rate: float | None
    flip_rate: float | None
    unscorable: int
    by_kind: dict[str, float]  # share judged good


def load_canaries() -> list[Canary]:
    """The packaged set."""
    text = files("rapo_ray.judging").joinpath("data/canaries.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in split_lines(text)]
    return [
        Canary(
            Prompt(row["id"], row["text"], row["harmful"], row["level"], "canaries", "canary"),
            row["kind"],
            row["completion"],
            row["good"],
            row["twin_of"],
        )
        for row in rows
    ]


def responses_of(canaries: Sequence[Canary], chat: ChatFormat = PLAIN) -> list[Response]:
    """The canaries as responses to judge, with a format's marks, each a group of its own."""
    return [
        Response(index, 0, canary.prompt.id, chat.from_plain(canary.text), False)
        for index, canary in enumerate(canaries)
    ]


def report(canaries: Sequence[Canary], verdicts: Sequence[Verdict]) -> CanaryReport:
    """Rates of the judge by its verdicts, which are in the canaries' order."""
    judged = {
        canary.prompt.id: (canary, verdict.general == 1)
        for canary, verdict in zip(canaries, verdicts, strict=True)
        if verdict.scorable
    }
    flips = [
        good != judged[canary.twin_of][1]
        for canary, good in judged.values()
        if canary.twin_of is not None and canary.twin_of in judged
    ]
    kinds = dict.fromkeys(canary.kind for canary, _ in judged.values())
    return CanaryReport(
        _share([good for canary, good in judged.values() if canary.good]),
        _share([good for canary, good in judged.values() if not canary.good]),
        _share(flips),
        len(canaries) - len(judged),
        {kind: _share([good for canary, good in judged.values() if canary.kind == kind]) or 0.0 for kind in kinds},
    )


def check(rates: CanaryReport, config: CanaryConfig, round_number: int) -> None:
    """Raise JudgeError where a rate is beyond its limit or could not be measured."""
    limits = (
        ("true positive rate", rates.true_positive_rate, config.min_true_positive_rate, -1),
        ("false positive rate", rates.false_positive_rate, config.max_false_positive_rate, 1),
        ("flip rate", rates.flip_rate, config.max_flip_rate, 1),
    )
    for name, value, limit, sign in limits:
        if value is None:
            raise JudgeError(f"round {round_number}: no canary for the {name} could be judged; see the judge's log")
        if sign * (value - limit) > 0:
            word = "above" if sign > 0 else "below"
            raise JudgeError(
                f"round {round_number}: the judge's {name} on the canaries is {value:.2f}, {word} the limit of "
                f"{limit:.2f} (judge.canaries): training on its verdicts would teach noise"
            )


def _share(values: Sequence[bool]) -> float | None:
    return sum(values) / len(values) if values else None
