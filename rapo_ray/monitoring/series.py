"""Every series that a run exports, and its values in a line of metrics (pure).

Names end in their unit: seconds, tokens, nats, share (0..1), sentences; one without a unit is a number or a version.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Series:
    """A metric of Ray, which exports it to Prometheus as `ray_NAME`; `run` is a tag of each."""

    name: str
    help: str
    tags: tuple[str, ...] = ()
    kind: Literal["gauge", "counter"] = "gauge"


@dataclass(frozen=True, slots=True)
class Value:
    """What one series is set to, or grows by; None where the round had nothing to compute it from."""

    name: str
    value: float | None
    tags: dict[str, str]


PREFIX = "rapo_train_"
RESTARTS = f"{PREFIX}restarts_total"
ROUNDS = f"{PREFIX}rounds"
SERIES = (
    Series(ROUNDS, "Rounds that the run is to make"),
    Series(f"{PREFIX}round", "Last finished round"),
    Series(f"{PREFIX}weights_version", "Version of the weights that made the round's completions"),
    Series(f"{PREFIX}reward", "Mean reward over scorable samples, by part", ("part",)),
    Series(f"{PREFIX}cases", "Samples of the round that got this case at this level", ("level", "case")),
    Series(f"{PREFIX}share", "Share of the round's samples (groups, for the names that end in it)", ("of",)),
    Series(f"{PREFIX}completion_tokens", "Length of completions", ("statistic",)),
    Series(f"{PREFIX}trace_sentences", "Length of safe-reasoning traces", ("statistic",)),
    Series(f"{PREFIX}kl_nats", "KL to the reference, a token"),
    Series(f"{PREFIX}entropy_nats", "Entropy of the policy, a token"),
    Series(f"{PREFIX}logprob_gap_nats", "Engines' against the policy's log-probs of the same tokens", ("statistic",)),
    Series(f"{PREFIX}clip_share", "Share of tokens whose ratio was clipped"),
    Series(f"{PREFIX}loss", "Mean loss of the optimizer steps"),
    Series(f"{PREFIX}gradient_norm", "Mean gradient norm of the optimizer steps"),
    Series(f"{PREFIX}learning_rate", "Learning rate after the round"),
    Series(f"{PREFIX}judge_kappa", "Cohen's kappa of first and second judge", ("part",)),
    Series(f"{PREFIX}canary_share", "Canaries: true and false positive and flip rate, share unscorable", ("rate",)),
    Series(f"{PREFIX}phase_seconds", "The round's seconds, by phase", ("phase",)),
    Series(f"{PREFIX}tokens_per_second", "Tokens of a phase over its seconds", ("phase",)),
    Series(f"{PREFIX}idle_share", "Share of the round's seconds in which a role had nothing to do", ("role",)),
    Series(f"{PREFIX}verdicts_total", "Verdicts, by how they came about", ("status",), "counter"),
    Series(f"{PREFIX}tokens_total", "Tokens generated, trained on, and read and written by judges", ("of",), "counter"),
    Series(RESTARTS, "Actors started again", ("role",), "counter"),
)

# A role works in these phases and waits in all others.
WORKS_IN = {
    "rollout": ("generate_and_judge", "sync"),
    "judge": ("generate_and_judge",),
    "reference": ("reference",),
    "policy": ("update", "sync"),
}
DRAWING = "generate_and_judge"

Line = Mapping[str, Any]


def values(line: Line) -> Iterator[Value]:
    """What the line of a round says, series by series."""
    update, judge, tokens = line["update"], line["judge"], line["tokens"]
    yield _one("round", line["round"])
    yield _one("weights_version", line["policy_version"])
    yield from _each("reward", "part", line["reward"])
    for level, cases in line["level_by_case"].items():
        for case, count in cases.items():
            yield _one("cases", count, level=level, case=case)
    yield from _each("share", "of", line["shares"])
    for name, statistics in line["lengths"].items():
        yield from _each(name, "statistic", statistics)
    yield _one("kl_nats", update["kl"])
    yield _one("entropy_nats", update["entropy"])
    yield _one("clip_share", update["clip_share"])
    gaps = {statistic: update[f"logprob_gap_{statistic}"] for statistic in ("mean", "max")}
    yield from _each("logprob_gap_nats", "statistic", gaps)
    yield _one("loss", update["loss"])
    yield _one("gradient_norm", update["grad_norm"])
    yield _one("learning_rate", update["learning_rate"])
    if judge["agreement"]["n"]:  # a second judge was asked
        kappas = {part: judge["agreement"][f"{part}_kappa"] for part in ("risk", "general")}
        yield from _each("judge_kappa", "part", kappas)
    yield from _each("phase_seconds", "phase", line["seconds"])
    yield from _each("tokens_per_second", "phase", line["tokens_per_second"])
    yield from _each("idle_share", "role", idle_shares(line))
    yield from _each("verdicts_total", "status", judge["statuses"])
    yield from _each("tokens_total", "of", {**tokens, "judged": judge["tokens"]})


def canary_values(found: Line, asked: int) -> Iterator[Value]:
    """What a measurement of the judge found over so many canaries."""
    rates = {name: found[f"{name}_rate"] for name in ("true_positive", "false_positive", "flip")}
    yield from _each("canary_share", "rate", {**rates, "unscorable": found["unscorable"] / asked})


def idle_shares(line: Line) -> dict[str, float]:
    """By role, the share of the round's seconds that lie outside the phases in which it works.

    A round that was drawn beside the round before counts its own drawing, as if rounds were all alike.
    """
    seconds: dict[str, float] = line["seconds"]
    whole = sum(seconds.values())
    busy = {**seconds, DRAWING: line["drawing_seconds"]}
    there = {role: phases for role, phases in WORKS_IN.items() if any(phase in seconds for phase in phases)}
    if not whole:
        return {}
    return {role: max(0.0, 1 - sum(busy.get(phase, 0.0) for phase in phases) / whole) for role, phases in there.items()}


def _one(name: str, value: float | None, **tags: str) -> Value:
    return Value(f"{PREFIX}{name}", value, tags)


def _each(name: str, tag: str, found: Mapping[str, float | None]) -> Iterator[Value]:
    for key, value in found.items():
        yield _one(name, value, **{tag: key})
