"""Metrics of a round: one line of metrics.jsonl, and one of canaries.jsonl where the judge was measured before it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from rapo_ray.evaluation.heldout import Value, adequate, answered, level_of, refused, values_of
from rapo_ray.judging.agreement import agreement
from rapo_ray.reward.outcomes import fails, over_refusal
from rapo_ray.statistics import mean
from rapo_ray.types import Case, Decision, DroppedAttacks, Group, Phase, Prompt, RoundResult, Sample, Status, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardMeans:
    """Means over the scorable completions; None where there are none."""

    total: float | None
    risk: float | None
    general: float | None
    general_harmful: float | None
    general_benign: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """Shares of the round's completions, and of its groups."""

    malformed: float
    truncated: float
    unscorable: float
    zero_variance_groups: float
    unscorable_groups: float
    trained: float
    consistent: float | None = None  # of the traces whose decision was judged; None where none was
    over_refusal: float | None = None  # of the benign prompts' answers that a judge read: those that do not help


@dataclass(frozen=True, slots=True)
class Tally:
    """Scorable completions with a property, out of how many, to how many prompts."""

    count: int
    n: int
    prompts: int

    @property
    def share(self) -> float | None:
        """The count over n; None without a completion."""
        return self.count / self.n if self.n else None


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelMetrics:
    """Completions to prompts of one level; a malformed one is no answer, no refusal and has no adequate trace."""

    benign_answered: Tally
    harmful_refused: Tally
    adequate: Tally
    trace_sentences: float | None  # mean
    traces: int  # that it is the mean of


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackMetrics:
    """Prompts under attack, and the success of attacks: answers that comply, of those that a judge has read."""

    share: float  # of the round's prompts, benign twins included
    by_k: dict[str, Tally]  # over the harmful prompts; 0 is the plain ones
    by_family: dict[str, Tally]  # over the attacks that have it in their chain
    twins_answered: Tally
    dropped: DroppedAttacks


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Mean, median, 95th percentile and maximum; None without a value."""

    mean: float | None = None
    p50: int | None = None
    p95: int | None = None
    max: int | None = None


@dataclass(frozen=True, slots=True)
class Lengths:
    """Tokens of completions and sentences of traces."""

    completion_tokens: Quantiles
    trace_sentences: Quantiles


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateMetrics:
    """Means of the policy update over tokens, steps or pairs; None where it made none."""

    loss: float | None
    kl: float | None  # nats a token
    entropy: float | None  # nats a token
    clip_share: float | None
    logprob_gap_mean: float | None  # nats, engines' against the policy's
    logprob_gap_max: float | None
    grad_norm: float | None
    learning_rate: float | None
    optimizer_steps: float | None
    pairs: float | None
    pair_accuracy: float | None
    pair_margin: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Cohen's kappa and plain agreement of the first and the second judge over `n` completions."""

    n: int
    risk_kappa: float | None
    risk_agreement: float | None
    general_kappa: float | None
    general_agreement: float | None


@dataclass(frozen=True, slots=True)
class JudgeMetrics:
    """Tokens read and written by the judge, agreement with the second one, and number of verdicts by status."""

    tokens: int
    agreement: Agreement
    statuses: dict[str, int]


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """Completion tokens of a round."""

    generated: int
    trained: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundMetrics:
    """One line of metrics.jsonl; a figure that there is nothing to compute from is None."""

    round: int
    policy_version: int  # of the weights that made the rollouts
    reward: RewardMeans
    level_by_case: dict[str, dict[str, int]]  # level -> case -> completions
    shares: Shares
    lengths: Lengths
    update: UpdateMetrics
    judge: JudgeMetrics
    seconds: dict[str, float]  # by phase
    drawing_seconds: float  # generation and judging, which may have run beside the round before
    tokens_per_second: dict[str, float | None]  # by phase
    tokens: TokenCounts
    levels: dict[str, LevelMetrics] = field(default_factory=dict)  # empty in rounds of earlier versions
    decisions: dict[str, float] = field(default_factory=dict)  # decision -> share of the traces where it was judged
    attacks: AttackMetrics | None = None  # None without an attacker
    multiplier: float | None = None  # of G of benign prompts in this round; None without a bound on over-refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryMetrics:
    """One line of canaries.jsonl: the judge's rates on completions of known verdict, before a round."""

    round: int
    true_positive_rate: float | None
    false_positive_rate: float | None
    flip_rate: float | None
    unscorable: int
    by_kind: dict[str, float]  # share judged good


def measure_round(
    result: RoundResult, dropped: DroppedAttacks | None = None, multiplier: float | None = None
) -> RoundMetrics:
    """Compute the metrics of a finished round; `dropped` is None without an attacker."""
    pairs = [(group.prompt, sample) for group in result.groups_P for sample in group.samples_G]
    samples = [sample for _, sample in pairs]
    verdicts = [sample.verdict for sample in samples]
    scored = [(prompt, sample) for prompt, sample in pairs if sample.verdict.scorable]
    rewards_PG = [[s.reward for s in group.samples_G if s.verdict.scorable] for group in result.groups_P]
    tokens = [len(sample.rollout.tokens) for sample in samples]
    return RoundMetrics(
        round=result.round_number,
        policy_version=result.policy_version,
        reward=RewardMeans(
            total=mean(sample.reward for _, sample in scored),
            risk=mean(sample.verdict.risk for _, sample in scored),
            general=mean(sample.verdict.general for _, sample in scored),
            general_harmful=mean(sample.verdict.general for prompt, sample in scored if prompt.harmful),
            general_benign=mean(sample.verdict.general for prompt, sample in scored if not prompt.harmful),
        ),
        level_by_case=level_by_case(samples),
        shares=Shares(
            malformed=_share([verdict.status is Status.MALFORMED for verdict in verdicts]),
            truncated=_share([sample.rollout.truncated for sample in samples]),
            unscorable=_share([not verdict.scorable for verdict in verdicts]),
            zero_variance_groups=_share([len(rewards) > 1 and len(set(rewards)) == 1 for rewards in rewards_PG]),
            unscorable_groups=_share([len(rewards) < 2 for rewards in rewards_PG]),
            trained=result.trained_sequences / len(samples),
            consistent=mean(verdict.consistent for verdict in verdicts),
            over_refusal=over_refusal(result.groups_P),
        ),
        lengths=Lengths(
            quantiles(tokens), quantiles([verdict.sentences for verdict in verdicts if verdict.sentences is not None])
        ),
        update=_update(result.update.sums),
        judge=JudgeMetrics(
            sum(verdict.tokens for verdict in verdicts),
            Agreement(**agreement(samples)),
            {status.value: sum(verdict.status is status for verdict in verdicts) for status in Status},
        ),
        seconds=result.seconds,
        drawing_seconds=result.drawing_seconds,
        tokens_per_second=_rates(result, sum(tokens)),
        tokens=TokenCounts(sum(tokens), int(result.update.sums.get("tokens", 0))),
        levels=by_level(result.groups_P),
        decisions=decisions(verdicts),
        attacks=None if dropped is None else _attacks(result.groups_P, dropped),
        multiplier=multiplier,
    )


def _attacks(groups_P: Sequence[Group], dropped: DroppedAttacks) -> AttackMetrics:
    by_k: dict[str, list[Group]] = {}
    by_family: dict[str, list[Group]] = {}
    attacked = [group for group in groups_P if group.prompt.attack is not None]
    for group in groups_P:
        chain = group.prompt.attack.chain if group.prompt.attack is not None else ()
        if group.prompt.harmful:
            by_k.setdefault(str(len(chain)), []).append(group)
            for family in chain:
                by_family.setdefault(family, []).append(group)
    return AttackMetrics(
        share=len(attacked) / len(groups_P),
        by_k={k: _tally(by_k[k], _failed) for k in sorted(by_k)},
        by_family={family: _tally(by_family[family], _failed) for family in sorted(by_family)},
        twins_answered=_tally([group for group in attacked if not group.prompt.harmful], _answered),
        dropped=dropped,
    )


def _failed(_prompt: Prompt, verdict: Verdict) -> float | None:
    return fails(verdict)


def _answered(_prompt: Prompt, verdict: Verdict) -> float | None:
    failed = fails(verdict)
    return None if failed is None else not failed


def by_level(groups_P: Iterable[Group]) -> dict[str, LevelMetrics]:
    """Tallies and trace lengths of each level, `none` for prompts that neither source nor judge gave one."""
    groups: dict[str, list[Group]] = {}
    for group in groups_P:
        groups.setdefault(level_of(group), []).append(group)
    return {level: _level(groups[level]) for level in sorted(groups)}


def _level(groups_P: Sequence[Group]) -> LevelMetrics:
    verdicts = [sample.verdict for group in groups_P for sample in group.samples_G]
    sentences = [verdict.sentences for verdict in verdicts if verdict.sentences is not None]
    return LevelMetrics(
        benign_answered=_tally(groups_P, answered),
        harmful_refused=_tally(groups_P, refused),
        adequate=_tally(groups_P, adequate),
        trace_sentences=mean(sentences),
        traces=len(sentences),
    )


def _tally(groups_P: Sequence[Group], value: Value) -> Tally:
    by_prompt = [values_of(group, value) for group in groups_P]
    return Tally(int(sum(map(sum, by_prompt))), sum(map(len, by_prompt)), sum(map(bool, by_prompt)))


def level_by_case(samples: Iterable[Sample]) -> dict[str, dict[str, int]]:
    """Count the completions of each case at each level."""
    table = {str(level): {case.value: 0 for case in Case} for level in (1, 2, 3)}
    for sample in samples:
        if sample.verdict.level is not None and sample.verdict.case is not None:
            table[str(sample.verdict.level)][sample.verdict.case.value] += 1
    return table


def decisions(verdicts: Iterable[Verdict]) -> dict[str, float]:
    """Share of each decision among the traces whose decision was judged; empty where none was."""
    decided = [verdict.decision for verdict in verdicts if verdict.decision is not None]
    return {one.value: decided.count(one) / len(decided) for one in Decision} if decided else {}


def quantiles(values: Sequence[int]) -> Quantiles:
    """Quantiles by nearest rank: the least value with that share at or below it."""
    if not values:
        return Quantiles()
    ranked = sorted(values)
    p50, p95 = (ranked[-(-percent * len(ranked) // 100) - 1] for percent in (50, 95))
    return Quantiles(sum(ranked) / len(ranked), p50, p95, ranked[-1])


def _update(sums: dict[str, float]) -> UpdateMetrics:
    def per(name: str, unit: str) -> float | None:
        return sums[name] / sums[unit] if sums.get(unit) and name in sums else None

    return UpdateMetrics(
        loss=per("loss", "optimizer_steps"),
        kl=per("kl", "tokens"),
        entropy=per("entropy", "entropy_tokens"),
        clip_share=per("clipped", "tokens"),
        logprob_gap_mean=per("gap", "gap_tokens"),
        logprob_gap_max=sums.get("gap_max"),
        grad_norm=per("grad_norm", "optimizer_steps"),
        learning_rate=sums.get("learning_rate"),
        optimizer_steps=sums.get("optimizer_steps"),
        pairs=sums.get("pairs"),
        pair_accuracy=per("pair_accuracy", "pairs"),
        pair_margin=per("pair_margin", "pairs"),
    )


def _rates(result: RoundResult, generated: int) -> dict[str, float | None]:
    trained = result.update.sums.get("tokens", 0.0)
    tokens = {Phase.GENERATE_AND_JUDGE: generated, Phase.REFERENCE: trained, Phase.UPDATE: trained}
    seconds = {**result.seconds, Phase.GENERATE_AND_JUDGE: result.drawing_seconds}
    return {phase.value: count / seconds[phase] if seconds.get(phase) else None for phase, count in tokens.items()}


def _share(flags: Sequence[bool]) -> float:
    return sum(flags) / len(flags)
