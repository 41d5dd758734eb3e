"""The order of a round, and nothing else: no tensor maths, no logging.

sampler, attacker -> prompts -> engines -> rollouts -> judges -> verdicts -> credit -> advantages
                                  ^                                                       |
                                  | weights, version v+1                                  v
                                sync <---------------- policy <----------- reference (log-probs)

A checkpoint of the round before is saved beside generation and judging; reference and update wait for its end.
With `rollout.staleness=1` the engines collect the next round beside reference and policy (prefetch.py).
"""

from collections.abc import Iterator

from rapo_ray.config import RunConfig
from rapo_ray.errors import EngineError, JudgeError
from rapo_ray.orchestrator.phases import Phases
from rapo_ray.orchestrator.prefetch import RolloutPrefetcher
from rapo_ray.reward.credit import assign_credit
from rapo_ray.reward.pairs import make_pairs
from rapo_ray.roles import Learner, Progress
from rapo_ray.types import Group, Phase, RoundResult, Sample, Sequence, Status, UpdateResult


def run_round(
    source: RolloutPrefetcher,
    learner: Learner,
    config: RunConfig,
    number: int,
    progress: Progress,
    multiplier: float = 0.0,
) -> RoundResult:
    """One round: learns from its completions, leaves every engine with weights version `number`.

    Raises JudgeError over the failure budget and EngineError where a rollout was made with other weights than it says.
    """
    phases = Phases(progress.phase)
    with phases(Phase.GENERATE_AND_JUDGE):
        batch = source.take(number, progress.judged)
        check_versions(batch.groups_P, batch.version)
        check_failures(batch.groups_P, config.judge.failure_budget)
    source.prefetch(number + 1)
    credited_P = assign_credit(batch.groups_P, config.credit, multiplier)
    sequences = build_sequences(credited_P, config)
    update = UpdateResult()
    if learner.policy.saving:
        with phases(Phase.CHECKPOINT):
            learner.policy.wait_for_save()
    if sequences:
        if learner.reference is not None:
            with phases(Phase.REFERENCE):
                sequences = learner.reference.attach_logprobs(sequences)
        with phases(Phase.UPDATE):
            update = learner.policy.update(sequences)
    if source.in_flight:
        with phases(Phase.GENERATE_AND_JUDGE):
            source.wait()
    with phases(Phase.SYNC):
        learner.weights.sync(number)
    return RoundResult(number, batch.version, credited_P, update, phases.seconds, len(sequences), batch.seconds)


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
