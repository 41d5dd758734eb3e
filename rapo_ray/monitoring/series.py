"""Every series that a run exports, and its values in a round's metrics (pure).

Names end in their unit: seconds, tokens, nats, share (0..1), sentences; one without a unit is a number or a version.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Literal

from rapo_ray.config.alarms import AlarmName
from rapo_ray.judging.canaries import CanaryReport
from rapo_ray.storage.metrics import AttackMetrics, LevelMetrics, RoundMetrics
from rapo_ray.types import Phase


@dataclass(frozen=True, slots=True)
class Series:
    """A metric of Ray, which exports it to Prometheus as `ray_NAME`; `run` is a tag of each."""

    name: str
    help: str
    tags: tuple[str, ...] = ()
    kind: Literal["gauge", "counter"] = "gauge"


@dataclass(frozen=True, slots=True)
class Value:
    """Value that a gauge is set to, or a counter grows by; None where the round had nothing to compute it from."""

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
    Series(f"{PREFIX}decisions", "Share of the round's judged traces that come to this decision", ("decision",)),
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
    Series(f"{PREFIX}level_share", "Share of the completions to prompts of a level", ("level", "of")),
    Series(f"{PREFIX}level_sentences", "Mean length of the traces of a level", ("level",)),
    Series(
        f"{PREFIX}trace_follows_share",
        "Share of the answers that follow a swapped trace, by kind of swap, on the held-out prompts or the suites",
        ("prompts", "kind"),
    ),
    Series(
        f"{PREFIX}monitor_accuracy",
        "Balanced accuracy with which a reader of the trace alone predicts refusal; 0.5 is chance",
        ("prompts",),
    ),
    Series(
        f"{PREFIX}attack_success_share", "Share of answers that comply with a harmful prompt, by complexity k", ("k",)
    ),
    Series(f"{PREFIX}family_success_share", "The same of the attacks with this family in their chain", ("family",)),
    Series(f"{PREFIX}attacked_share", "Share of the round's prompts that are attacks or their benign twins"),
    Series(f"{PREFIX}attacks_dropped", "Attacks of the round that stayed plain prompts", ("reason",)),
    Series(f"{PREFIX}twins_answered_share", "Share of the answers to benign twins that help"),
    Series(
        f"{PREFIX}over_refusal_multiplier", "Multiplier of the bound on over-refusal: additional weight of benign G"
    ),
    Series(f"{PREFIX}alarm", "1 where an alarm is active, else 0", ("alarm",)),
    Series(RESTARTS, "Actors started again", ("role",), "counter"),
)

# A role works in these phases and waits in all others.
WORKS_IN = {
    "rollout": (Phase.GENERATE_AND_JUDGE, Phase.SYNC),
    "judge": (Phase.GENERATE_AND_JUDGE,),
    "reference": (Phase.REFERENCE,),
    "policy": (Phase.CHECKPOINT, Phase.UPDATE, Phase.SYNC),
}


def values(metrics: RoundMetrics) -> Iterator[Value]:
    """Values of a round's metrics, series by series."""
    update, judge = metrics.update, metrics.judge
    yield _one("round", metrics.round)
    yield _one("weights_version", metrics.policy_version)
    yield from _each("reward", "part", asdict(metrics.reward))
    for level, cases in metrics.level_by_case.items():
        for case, count in cases.items():
            yield _one("cases", count, level=level, case=case)
    yield from _each("share", "of", asdict(metrics.shares))
    for level_name, one in metrics.levels.items():
        yield from _level(level_name, one)
    yield from _each("decisions", "decision", metrics.decisions)
    if metrics.attacks is not None:
        yield from _attacks(metrics.attacks)
    if metrics.multiplier is not None:
        yield _one("over_refusal_multiplier", metrics.multiplier)
    for name, statistics in asdict(metrics.lengths).items():
        yield from _each(name, "statistic", statistics)
    yield _one("kl_nats", update.kl)
    yield _one("entropy_nats", update.entropy)
    yield _one("clip_share", update.clip_share)
    yield from _each("logprob_gap_nats", "statistic", {"mean": update.logprob_gap_mean, "max": update.logprob_gap_max})
    yield _one("loss", update.loss)
    yield _one("gradient_norm", update.grad_norm)
    yield _one("learning_rate", update.learning_rate)
    if judge.agreement.n:  # there is a second judge
        kappas = {"risk": judge.agreement.risk_kappa, "general": judge.agreement.general_kappa}
        yield from _each("judge_kappa", "part", kappas)
    yield from _each("phase_seconds", "phase", metrics.seconds)
    yield from _each("tokens_per_second", "phase", metrics.tokens_per_second)
    yield from _each("idle_share", "role", idle_shares(metrics.seconds, metrics.drawing_seconds))
    yield from _each("verdicts_total", "status", judge.statuses)
    yield from _each("tokens_total", "of", {**asdict(metrics.tokens), "judged": judge.tokens})


def alarm_values(watched: Mapping[AlarmName, bool]) -> Iterator[Value]:
    """Values of the alarms that are not off."""
    yield from _each("alarm", "alarm", {name: float(active) for name, active in watched.items()})


def canary_values(report: CanaryReport, canaries: int) -> Iterator[Value]:
    """Values of a measurement of the judge on so many canaries."""
    rates = {
        "true_positive": report.true_positive_rate,
        "false_positive": report.false_positive_rate,
        "flip": report.flip_rate,
        "unscorable": report.unscorable / canaries,
    }
    yield from _each("canary_share", "rate", rates)


def trace_values(prompts: str, shares: Mapping[str, float | None], accuracy: float | None) -> Iterator[Value]:
    """Values of a measurement of causality and monitorability on the held-out prompts, or on the suites."""
    for kind, share in shares.items():
        yield _one("trace_follows_share", share, prompts=prompts, kind=kind)
    yield _one("monitor_accuracy", accuracy, prompts=prompts)


def _level(name: str, level: LevelMetrics) -> Iterator[Value]:
    tallies = {"benign_answered": level.benign_answered, "harmful_refused": level.harmful_refused}
    for of, tally in {**tallies, "adequate": level.adequate}.items():
        yield _one("level_share", tally.share, level=name, of=of)
    yield _one("level_sentences", level.trace_sentences, level=name)


def _attacks(attacks: AttackMetrics) -> Iterator[Value]:
    yield from _each("attack_success_share", "k", {k: tally.share for k, tally in attacks.by_k.items()})
    yield from _each("family_success_share", "family", {name: one.share for name, one in attacks.by_family.items()})
    yield _one("attacked_share", attacks.share)
    yield from _each("attacks_dropped", "reason", asdict(attacks.dropped))
    yield _one("twins_answered_share", attacks.twins_answered.share)


def idle_shares(seconds: Mapping[str, float], drawing_seconds: float) -> dict[str, float]:
    """Share of the round's seconds, by role, outside the phases in which the role works.

    A round that was collected beside the round before counts its own collection, as if all rounds were alike.
    """
    total = sum(seconds.values())
    if not total:
        return {}
    busy = {**seconds, Phase.GENERATE_AND_JUDGE: drawing_seconds}
    return {
        role: max(0.0, 1 - sum(busy.get(phase, 0.0) for phase in phases) / total)
        for role, phases in WORKS_IN.items()
        if any(phase in seconds for phase in phases)
    }


def _one(name: str, value: float | None, **tags: str) -> Value:
    return Value(f"{PREFIX}{name}", value, tags)


def _each(name: str, tag: str, by_tag: Mapping[str, float | None]) -> Iterator[Value]:
    for key, value in by_tag.items():
        yield _one(name, value, **{tag: key})
