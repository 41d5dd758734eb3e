"""Rounds over simulated actors: their duration, idle roles, and the driver's own share."""

import time
from dataclasses import dataclass
from typing import Any

import ray

from rapo_ray import console
from rapo_ray.config import RunConfig
from rapo_ray.errors import RoundLost
from rapo_ray.orchestrator.collect import RoundCollector
from rapo_ray.orchestrator.prefetch import RolloutPrefetcher
from rapo_ray.orchestrator.round import run_round
from rapo_ray.orchestrator.weight_sync import PolicyToEngines, Sender
from rapo_ray.roles import Inference, Learner, Progress, Reference
from rapo_ray.simulation.actors import Clock, Hosted, SimulatedHost
from rapo_ray.simulation.layout import busy_share
from rapo_ray.simulation.profile import PROMPT_TOKENS, Profile
from rapo_ray.types import Phase, Prompt

HOSTS = 4  # processes that all simulated actors share
JUDGE_CALLS = 100_000  # more than are ever in flight at once

Busy = list[tuple[float, float]]  # of a role's actors: its own seconds, and those of the card that it works on


@dataclass(frozen=True, slots=True)
class SimulatedRound:
    """One round in simulated seconds: its wall clock, its phases, and how long its roles and cards were busy."""

    number: int
    seconds: float
    phases: dict[str, float]
    busy: dict[str, float]  # role -> mean busy seconds of one of its actors
    longest: dict[str, float]  # role -> busy seconds of the busiest
    cards_busy: float  # share of the round in which a card of the layout computed
    drawing: float  # seconds of generation and judging, which may have run beside the round before
    rollouts: int
    driver: float  # CPU seconds of the driver's process, which no speed shortens

    @property
    def waiting(self) -> float:
        """Seconds in which the driver waited for completions or verdicts."""
        return self.phases.get(Phase.GENERATE_AND_JUDGE, 0.0)


class Simulation:
    """All roles of a config, simulated; `speed` simulated seconds pass in a real one."""

    def __init__(self, config: RunConfig, profile: Profile, speed: float = 1.0) -> None:
        from actors.judge_group import JudgeGroup
        from actors.rollout_group import Engines, RolloutGroup
        from actors.training_group import PolicyAsReference, PolicyGroup, ReferenceGroup, SharedCards

        self._config = config
        self._clock = Clock(speed)
        host: Any = ray.remote(SimulatedHost).options(num_cpus=0, max_concurrency=JUDGE_CALLS)
        self._hosts: list[Any] = [host.remote(profile, self._clock) for _ in range(HOSTS)]
        limits = (config.reference.micro_batch_tokens, config.policy.row_tokens)
        guests = config.shares_cards(config.judge.risk)
        self._roles = {
            "rollout": self._start("engine", "rollout", config.rollout.engines, config.rollout.max_num_seqs),
            "judge": self._start("judge", "judge", config.judge.risk.actors, card="rollout" if guests else "judge"),
            "policy": self._start("trainer", "policy", config.policy.ranks),
        }
        engines = Engines(self._roles["rollout"], config.limits)
        rollouts = RolloutGroup(engines, config.rollout, config.seed, config.warmup.max_new_tokens)
        judges = JudgeGroup(self._roles["judge"], [], config.limits)
        cards = SharedCards(rollouts, judges) if config.rollout.colocate else None
        policy = PolicyGroup(self._roles["policy"], config.policy, config.limits, cards)
        reference: Reference | None = None
        if config.policy.needs_reference and cards is not None:
            reference = PolicyAsReference(policy, *limits)
        elif config.policy.needs_reference:
            self._roles["reference"] = self._start("trainer", "reference", config.reference.actors)
            reference = ReferenceGroup(self._roles["reference"], config.limits, *limits)
        self._inference = Inference(rollouts, judges)
        self._learner = Learner(reference, policy, PolicyToEngines(SimulatedSender(policy, self._hosts), engines))

    def _start(self, kind: str, role: str, count: int, *arguments: int, card: str = "") -> list[Any]:
        """Handles of a role's actors, spread over the hosts; number i is on the card i of its role, or of another."""
        placed = [(self._hosts[index % HOSTS], f"{role}-{index}", f"{card or role}-{index}") for index in range(count)]
        ray.get([host.add.remote(kind, name, place, *arguments) for host, name, place in placed])
        return [Hosted(host, name) for host, name, _ in placed]

    def rounds(self, count: int) -> list[SimulatedRound]:
        """Simulate so many rounds."""
        config = self._config
        collector = RoundCollector(self._inference, config)
        staleness = config.rollout.staleness
        source = RolloutPrefetcher(_Prompts(config), collector, lambda number: staleness > 0 and number <= count)
        self._learner.weights.sync(0)
        played = []
        for number in range(1, count + 1):
            with console.progress(f"round {number}/{count}") as progress:
                played.append(self._round(number, source, progress))
        return played

    def _round(self, number: int, source: RolloutPrefetcher, progress: Progress) -> SimulatedRound:
        before = self._busy()
        started, used = self._clock.now(), time.process_time()
        result = run_round(source, self._learner, self._config, number, progress)
        seconds, driver = self._clock.now() - started, time.process_time() - used
        worked = {role: _since(before[role], busy) for role, busy in self._busy().items()}
        on_cards = {role: sum(card for _, card in each) / len(each) for role, each in worked.items()}
        speed = self._clock.speed
        return SimulatedRound(
            number, seconds, {phase: each * speed for phase, each in result.seconds.items()},
            {role: sum(actor for actor, _ in each) / len(each) for role, each in worked.items()},
            {role: max(actor for actor, _ in each) for role, each in worked.items()},
            busy_share(self._config, on_cards, seconds),
            result.drawing_seconds * speed,
            sum(len(group.samples_G) for group in result.groups_P),
            driver,
        )  # fmt: skip

    def _busy(self) -> dict[str, Busy]:
        """Busy seconds of each role's actors, and of the card that each works on."""
        return {role: ray.get([actor.busy.remote() for actor in actors]) for role, actors in self._roles.items()}

    def close(self) -> None:
        """End the processes."""
        for host in self._hosts:
            ray.kill(host)


def _since(before: Busy, now: Busy) -> Busy:
    return [(actor - then, card - its) for (actor, card), (then, its) in zip(now, before, strict=True)]


class _Prompts:
    """The same prompts for every round."""

    def __init__(self, config: RunConfig) -> None:
        self._prompts_P = [
            Prompt(f"simulated/{number}", "x" * 4 * PROMPT_TOKENS, False, 1, "simulated", "train")
            for number in range(config.prompts_per_round)
        ]

    def next_batch(self, number: int) -> list[Prompt]:
        """The prompts of a round."""
        return self._prompts_P


class SimulatedSender:
    """The policy's side of a sync."""

    can_resend = True

    def __init__(self, policy: Sender, hosts: list[Any]) -> None:
        self._policy = policy
        self._hosts = hosts

    def send_weights(self, version: int) -> None:
        """Let the ranks take their time over it, then every engine has them."""
        self._policy.send_weights(version)
        ray.get([host.take_weights.remote(version) for host in self._hosts])

    def resend(self, engine: int) -> None:
        """No simulated engine is lost."""
        raise RoundLost("simulated engines do not restart")
