"""The order of a round, and nothing else: no tensor maths, no logging.

sampler -> prompts -> engines -> rollouts -> judges -> verdicts -> credit -> advantages
                        ^                                                       |
                        | weights, version v+1                                  v
                      sync <---------------- policy <----------- reference (log-probs)

With `rollout.staleness=1` the engines draw the next round beside reference and policy (prefetch.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from rapo_ray.config import RunConfig
from rapo_ray.errors import EngineError, JudgeError
from rapo_ray.orchestrator.phases import Phases
from rapo_ray.orchestrator.prefetch import Ahead
from rapo_ray.reward.credit import assign_credit, has_signal
from rapo_ray.reward.pairs import make_pairs
from rapo_ray.roles import Judge, Judged, Policy, Progress, Reference, Rollouts, WeightSync
from rapo_ray.types import Group, Prompt, RoundResult, Sample, Sequence, Status, UpdateResult


@dataclass(frozen=True, slots=True)
class Roles:
    """Who does what; `reference` is None where the KL is off."""

    rollouts: Rollouts
    judge: Judge
    reference: Reference | None
    policy: Policy
    weights: WeightSync


def run_round(roles: Roles, config: RunConfig, ahead: Ahead, number: int, progress: Progress) -> RoundResult:
    """One round: learns from its completions, leaves every engine with weights version `number`.

    Raises JudgeError over the failure budget and EngineError where a rollout was made with other weights than it says.
    """
    phases = Phases(progress.phase)
    with phases("generate_and_judge"):
        drawn = ahead.take(number, progress.judged)
        check_versions(drawn.groups_P, drawn.version)
        check_failures(drawn.groups_P, config.judge.failure_budget)
    ahead.begin(number + 1)
    credited_P = assign_credit(drawn.groups_P, config.credit)
    sequences = build_sequences(credited_P, config)
    update = UpdateResult()
    if sequences:
        if roles.reference is not None:
            with phases("reference"):
                sequences = roles.reference.attach_logprobs(sequences)
        with phases("update"):
            update = roles.policy.update(sequences)
    if ahead.in_flight:
        with phases("generate_and_judge"):
            ahead.wait()
    with phases("sync"):
        roles.weights.sync(number)
    return RoundResult(number, drawn.version, credited_P, update, phases.seconds, len(sequences), drawn.seconds)


def draw_groups(
    roles: Roles, config: RunConfig, prompts_P: list[Prompt], number: int, judged: Judged
) -> tuple[Group, ...]:
    """The round's groups; one that teaches nothing is drawn again with other seeds, `credit.resample` times at most."""
    samples = config.samples_per_prompt
    groups_P = list(collect_groups(roles, prompts_P, range(samples), number, judged))
    for attempt in range(1, config.credit.resample + 1):
        degenerate = [index for index, group in enumerate(groups_P) if not has_signal(group, config.credit)]
        if not degenerate:
            break
        numbers = range(attempt * samples, (attempt + 1) * samples)
        again = collect_groups(roles, [prompts_P[index] for index in degenerate], numbers, number, judged)
        for index, group in zip(degenerate, again, strict=True):
            groups_P[index] = _at(index, group)
    return tuple(groups_P)


def _at(index: int, group: Group) -> Group:
    samples_G = tuple(replace(s, rollout=replace(s.rollout, group=index)) for s in group.samples_G)
    return replace(group, samples_G=samples_G)


def collect_groups(
    roles: Roles, prompts_P: list[Prompt], samples: range, number: int, judged: Judged
) -> tuple[Group, ...]:
    """Generate and judge side by side; waits for the last verdict, groups come back in the order of the prompts."""
    found: dict[tuple[int, int], Sample] = {}
    expected = len(prompts_P) * len(samples)
    rollouts = roles.rollouts.generate(prompts_P, samples, number)
    for rollout, completion, verdict in roles.judge.score(prompts_P, rollouts):
        key = (rollout.group, rollout.sample)
        if key in found or rollout.sample not in samples or not 0 <= rollout.group < len(prompts_P):
            raise EngineError(f"round {number}: completion {key} of {rollout.engine} came twice or was never asked for")
        found[key] = Sample(rollout, completion, verdict)
        judged(len(found), expected)
    if missing := expected - len(found):
        raise EngineError(f"round {number}: {missing} of {expected} completions never came back")
    return tuple(
        Group(prompt, tuple(found[index, sample] for sample in samples)) for index, prompt in enumerate(prompts_P)
    )


def check_versions(groups_P: tuple[Group, ...], version: int) -> None:
    """Raises EngineError where a rollout was made with other weights than `version`."""
    wrong = {sample.rollout.policy_version for sample in _samples(groups_P)} - {version}
    if wrong:
        raise EngineError(f"rollouts carry weights version {sorted(wrong)}, the policy is at {version}")


def check_failures(groups_P: tuple[Group, ...], budget: float) -> None:
    """Raises JudgeError where more than `budget` of the verdicts are unscorable."""
    failed = [sample.verdict for sample in _samples(groups_P) if not sample.verdict.scorable]
    total = sum(len(group.samples_G) for group in groups_P)
    if failed and len(failed) / total > budget:  # not budget * total: 0.29 * 100 is less than 29
        counts = {status: sum(verdict.status is status for verdict in failed) for status in Status}
        kinds = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
        raise JudgeError(
            f"{len(failed)} of {total} verdicts failed ({kinds}; first: {failed[0].detail}), "
            f"more than judge.failure_budget={budget:g}"
        )


def build_sequences(groups_P: tuple[Group, ...], config: RunConfig) -> list[Sequence]:
    """Training rows: every sample that has an advantage, group by group, or chosen and rejected of every pair."""
    if config.policy.learns_from_pairs:
        pairs = make_pairs(groups_P, config.credit.min_margin)
        whole = [pair for pair in pairs if pair.chosen.rollout.tokens and pair.rejected.rollout.tokens]
        return [_sequence(sample) for pair in whole for sample in (pair.chosen, pair.rejected)]
    samples = [sample for sample in _samples(groups_P) if sample.advantage is not None]
    return [_sequence(sample) for sample in samples if sample.rollout.tokens]


def _sequence(sample: Sample) -> Sequence:
    rollout = sample.rollout
    return Sequence(rollout.prompt_tokens, rollout.tokens, sample.advantage or 0.0, rollout.logprobs)


def _samples(groups_P: tuple[Group, ...]) -> Iterator[Sample]:
    for group in groups_P:
        yield from group.samples_G
