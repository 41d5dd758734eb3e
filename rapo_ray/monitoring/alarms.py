"""Alarms of a run: signs in the rounds' metrics that the policy unlearns the method (pure).

The last rounds are compared with as many first ones, or with a fixed bound. A round is small, so an alarm needs an
interval that excludes no change, with the prompts as the trials: the samples of a prompt are not independent.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import get_args

from rapo_ray.config.alarms import AlarmName, AlarmsConfig
from rapo_ray.errors import AlarmRaised
from rapo_ray.statistics import Bounds, mean, share_change, wilson_bounds
from rapo_ray.storage.metrics import LevelMetrics, RoundMetrics, Tally
from rapo_ray.storage.records import AlarmChange, active_alarms

BEGIN_Z, STAY_Z = 3.0, 1.5  # of a change: it is looked for after every round, and so must be far out of the ordinary
MIN_SHARE = 0.25  # of answered prompts and adequate traces
MAX_CONTRADICTORY = 0.25
MIN_GROWTH, STAY_GROWTH = 1.0, 2.0  # sentences by which the traces of level 3 are longer than those of level 1
MIN_ENTROPY, STAY_ENTROPY = 0.3, 0.4  # share of the first rounds' entropy
MIN_HARMFUL = 12  # prompts without a benign one among them
MIN_PROMPTS = 4  # of a level in a window, for its mean trace length

Rounds = Sequence[RoundMetrics]
Part = Callable[[LevelMetrics], Tally]
# First rounds (none until there are twice as many), last rounds, and if the alarm is active: a reason for it, or None.
Check = Callable[[Rounds, Rounds, bool], str | None]


def always_refuse(first: Rounds, last: Rounds, active: bool) -> str | None:
    """Benign prompts are answered less than before, or hardly, or the rounds have none that could be."""
    if pooled(last, _benign) is None:
        harmful = pooled(last, _harmful)
        if harmful is None or harmful[1] < MIN_HARMFUL:
            return None
        return (
            f"none of {harmful[1]} judged prompts in {_named(last)} is benign, so nothing teaches answering: "
            "check that data.train has as many benign prompts as harmful ones"
        )
    levels = [None, *_levels(last)]
    worse = _fell("benign prompts answered", _benign, first, last, None, active)
    low = (_is_low("benign prompts answered", _benign, last, level, active) for level in levels)
    reason = worse or next(filter(None, low), None)
    return reason and f"{reason}: balance benign and harmful prompts in data.train, or lower policy.learning_rate"


def depth_collapse(first: Rounds, last: Rounds, active: bool) -> str | None:
    """Fewer traces of a level are adequate than before, or hardly any, or their length no longer grows with it."""
    levels = _levels(last)
    worse = (_fell("adequate traces", _adequate, first, last, level, active) for level in levels)
    low = (_is_low("adequate traces", _adequate, last, level, active) for level in levels)
    reason = next(filter(None, (*worse, _flat(last, active), *low)), None)
    return reason and f"{reason}: raise rollout.max_new_tokens if traces are cut, or lower policy.learning_rate"


def contradictory_traces(_first: Rounds, last: Rounds, active: bool) -> str | None:
    """Traces contradict themselves or the answer."""
    consistent, prompts = mean(one.shares.consistent for one in last), _prompts(last)
    if consistent is None or not prompts:
        return None
    share = 1 - consistent
    if (share if active else wilson_bounds(share, prompts)[0]) <= MAX_CONTRADICTORY:
        return None
    return (
        f"contradictory traces {share:.0%} in {_named(last)}, more than {MAX_CONTRADICTORY:.0%}: "
        "read some in the report, the reward pays for answers that their traces do not explain"
    )


def parts_diverge(first: Rounds, last: Rounds, active: bool) -> str | None:
    """R and G move in opposite directions."""
    risk = _moved(first, last, lambda one: one.reward.risk, active)
    general = _moved(first, last, lambda one: one.reward.general, active)
    if risk is None or general is None:
        return None
    (risk_before, risk_after, (risk_low, risk_high)) = risk
    (general_before, general_after, (general_low, general_high)) = general
    if not (risk_low > 0 and general_high < 0) and not (risk_high < 0 and general_low > 0):
        return None
    return (
        f"R {risk_before:+.2f} to {risk_after:+.2f} and G {general_before:+.2f} to {general_after:+.2f}, "
        f"from {_named(first)} to {_named(last)}: one part pays for the other, try credit.scheme=gdpo"
    )


def entropy_collapse(first: Rounds, last: Rounds, active: bool) -> str | None:
    """The policy's completions are far less varied than in the first rounds."""
    before, after = mean(one.update.entropy for one in first), mean(one.update.entropy for one in last)
    if not before or after is None or after >= (STAY_ENTROPY if active else MIN_ENTROPY) * before:
        return None
    return (
        f"entropy {after:.2g} nats a token in {_named(last)}, {before:.2g} in {_named(first)}: "
        "raise policy.kl_coef, or lower policy.learning_rate"
    )


CHECKS: dict[AlarmName, Check] = {
    "always_refuse": always_refuse,
    "depth_collapse": depth_collapse,
    "contradictory_traces": contradictory_traces,
    "parts_diverge": parts_diverge,
    "entropy_collapse": entropy_collapse,
}
NAMES: tuple[AlarmName, ...] = get_args(AlarmName)


class Alarms:
    """Alarms of one run as they begin and end; `history` and `changes` are those of its finished rounds."""

    def __init__(
        self, config: AlarmsConfig, history: Iterable[RoundMetrics] = (), changes: Iterable[AlarmChange] = ()
    ) -> None:
        self._config = config
        self._history = [one for one in history if one.levels]  # rounds of earlier versions have none
        self.active = active_alarms(changes)

    def observe(self, metrics: RoundMetrics) -> list[AlarmChange]:
        """Changes that a finished round brings."""
        if metrics.levels:
            self._history.append(metrics)
        changes = [change for name in NAMES if (change := self._change(name, metrics.round)) is not None]
        for change in changes:
            self.active.pop(change.name, None)
        self.active |= active_alarms(changes)
        return changes

    def watched(self) -> dict[AlarmName, bool]:
        """Alarms that are not off, and if each is active."""
        return {name: name in self.active for name in NAMES if self._config.action(name) != "off"}

    def check(self) -> None:
        """Raise AlarmRaised where an active alarm is set to stop."""
        for name, began in self.active.items():
            if self._config.action(name) == "stop":
                raise AlarmRaised(
                    f"round {began.round}: alarm {name} stops the run (alarms.{name}=stop): {began.message}; "
                    f"with alarms.{name}=warn the same command goes on from the last checkpoint"
                )

    def _change(self, name: AlarmName, number: int) -> AlarmChange | None:
        began = self.active.get(name)
        reason = self._reason(name, began is not None)
        if reason is not None and began is None:
            return AlarmChange(round=number, name=name, state="began", message=reason)
        if reason is None and began is not None:
            return AlarmChange(round=number, name=name, state="over", message=began.message)
        return None

    def _reason(self, name: AlarmName, active: bool) -> str | None:
        window = self._config.window
        if self._config.action(name) == "off" or len(self._history) < window:
            return None
        first = self._history[:window] if len(self._history) >= 2 * window else []
        return CHECKS[name](first, self._history[-window:], active)


def line(change: AlarmChange) -> str:
    """Change of an alarm in one line, for the terminal and the log."""
    if change.state == "over":
        return f"alarm {change.name} is over after round {change.round}"
    return f"ALARM {change.name} since round {change.round}: {change.message}"


def pooled(rounds: Rounds, part: Part, level: str | None = None) -> tuple[float, int] | None:
    """Share and prompts of a level, or of all, in some rounds; None without a prompt."""
    tallies = [part(one) for each in rounds for name, one in each.levels.items() if level in (None, name)]
    n = sum(tally.n for tally in tallies)
    return (sum(tally.count for tally in tallies) / n, sum(tally.prompts for tally in tallies)) if n else None


def _benign(one: LevelMetrics) -> Tally:
    return one.benign_answered


def _harmful(one: LevelMetrics) -> Tally:
    return one.harmful_refused


def _adequate(one: LevelMetrics) -> Tally:
    return one.adequate


def _fell(what: str, part: Part, first: Rounds, last: Rounds, level: str | None, active: bool) -> str | None:
    before, after = pooled(first, part, level), pooled(last, part, level)
    if before is None or after is None or share_change(*before, *after, STAY_Z if active else BEGIN_Z)[1] >= 0:
        return None
    return f"{what}{_at(level)} {after[0]:.0%} in {_named(last)}, {before[0]:.0%} in {_named(first)}"


def _is_low(what: str, part: Part, last: Rounds, level: str | None, active: bool) -> str | None:
    share = pooled(last, part, level)
    if share is None or (share[0] if active else wilson_bounds(*share)[1]) >= MIN_SHARE:
        return None
    return f"{what}{_at(level)} {share[0]:.0%} in {_named(last)}, less than {MIN_SHARE:.0%}"


def _flat(last: Rounds, active: bool) -> str | None:
    shallow, deep = _sentences(last, "1"), _sentences(last, "3")
    if shallow is None or deep is None or deep - shallow > (STAY_GROWTH if active else MIN_GROWTH):
        return None
    return f"traces of level 3 have {deep:.1f} sentences and those of level 1 {shallow:.1f} in {_named(last)}"


def _sentences(rounds: Rounds, level: str) -> float | None:
    levels = [one.levels[level] for one in rounds if level in one.levels]
    traces = sum(one.traces for one in levels)
    if not traces or sum(one.adequate.prompts for one in levels) < MIN_PROMPTS:
        return None
    return sum((one.trace_sentences or 0.0) * one.traces for one in levels) / traces


def _moved(
    first: Rounds, last: Rounds, part: Callable[[RoundMetrics], float | None], active: bool
) -> tuple[float, float, Bounds] | None:
    """Mean before and after of a part within [-1, 1], and bounds of the change of it as a share."""
    before, after = mean(map(part, first)), mean(map(part, last))
    if before is None or after is None:
        return None
    z = STAY_Z if active else BEGIN_Z
    return before, after, share_change((1 + before) / 2, _prompts(first), (1 + after) / 2, _prompts(last), z)


def _prompts(rounds: Rounds) -> int:
    """Prompts with a scorable completion."""
    return sum(level.adequate.prompts for one in rounds for level in one.levels.values())


def _levels(rounds: Rounds) -> list[str]:
    return sorted({level for one in rounds for level in one.levels})


def _at(level: str | None) -> str:
    return f" at level {level}" if level else ""


def _named(rounds: Rounds) -> str:
    first, last = rounds[0].round, rounds[-1].round
    return f"round {first}" if first == last else f"rounds {first}-{last}"
