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
from rapo_ray.orchestrator.weight_sync import PolicyToEngines
from rapo_ray.roles import Inference, Learner, Progress
from rapo_ray.simulation.actors import Hosted, SimulatedHost
from rapo_ray.simulation.profile import PROMPT_TOKENS, Profile
from rapo_ray.types import Phase, Prompt

HOSTS = 4  # processes that all simulated actors share
JUDGE_CALLS = 100_000  # more than are ever in flight at once


@dataclass(frozen=True, slots=True)
class SimulatedRound:
    """One round: its wall clock, its phases, and how long its roles were busy."""

    number: int
    seconds: float
    phases: dict[str, float]
    busy: dict[str, float]  # role -> mean busy seconds of one of its actors
    longest: dict[str, float]  # role -> busy seconds of the busiest
    drawing: float  # seconds of generation and judging, which may have run beside the round before
    rollouts: int
    driver: float  # CPU seconds of the driver's process

    @property
    def waiting(self) -> float:
        """Seconds in which the driver waited for completions or verdicts."""
        return self.phases.get(Phase.GENERATE_AND_JUDGE, 0.0)


class Simulation:
    """All roles of a config, simulated."""

    def __init__(self, config: RunConfig, profile: Profile) -> None:
        from actors.judge_group import JudgeGroup
        from actors.rollout_group import Engines, RolloutGroup
        from actors.training_group import PolicyGroup, ReferenceGroup

        self._config = config
        host: Any = ray.remote(SimulatedHost).options(num_cpus=0, max_concurrency=JUDGE_CALLS)
        self._hosts: list[Any] = [host.remote() for _ in range(HOSTS)]
        judge = config.judge.risk
        seats = config.rollout.max_num_seqs
        names = [f"rollout-{index}" for index in range(config.rollout.engines)]
        self._roles = {
            "rollout": self._many("engine", names, lambda name: (name, profile, seats)),
            "judge": self._many("judge", [f"judge-{n}" for n in range(judge.actors)], lambda name: (name, profile)),
            "policy": self._many(
                "trainer",
                [f"policy-{rank}" for rank in range(config.policy.ranks)],
                lambda name: (profile.update_tokens_per_second,),
            ),
        }
        if config.policy.needs_reference:
            self._roles["reference"] = self._many(
                "trainer",
                [f"reference-{index}" for index in range(config.reference.actors)],
                lambda name: (profile.reference_tokens_per_second,),
            )
        engines = Engines(self._roles["rollout"], config.limits)
        limits = (config.reference.micro_batch_tokens, config.policy.row_tokens)
        reference = self._roles.get("reference")
        self._inference = Inference(
            RolloutGroup(engines, config.rollout, config.seed, config.warmup.max_new_tokens),
            JudgeGroup(self._roles["judge"], [], config.limits),
        )
        self._learner = Learner(
            ReferenceGroup(reference, config.limits, *limits) if reference else None,
            PolicyGroup(self._roles["policy"], config.policy, config.limits),
            PolicyToEngines(SimulatedSender(self._hosts, profile.sync_seconds), engines),
        )

    def _many(self, kind: str, names: list[str], arguments: Any) -> list[Any]:
        handles = [Hosted(self._hosts[index % HOSTS], name) for index, name in enumerate(names)]
        ray.get(
            [self._hosts[index % HOSTS].add.remote(name, kind, *arguments(name)) for index, name in enumerate(names)]
        )
        return handles

    def rounds(self, count: int) -> list[SimulatedRound]:
        """Simulate so many rounds."""
        config = self._config
        collector = RoundCollector(self._inference, config)
        staleness = config.rollout.staleness
        source = RolloutPrefetcher(_Prompts(config), collector, lambda number: staleness > 0 and number <= count)
        self._learner.weights.sync(0)
        played = []
        before = self._busy()
        for number in range(1, count + 1):
            with console.progress(f"round {number}/{count}") as progress:
                played.append(self._round(number, source, progress, before))
            before = self._busy()
        return played

    def _round(
        self, number: int, source: RolloutPrefetcher, progress: Progress, before: dict[str, list[float]]
    ) -> SimulatedRound:
        started, used = time.monotonic(), time.process_time()
        result = run_round(source, self._learner, self._config, number, progress)
        seconds, driver = time.monotonic() - started, time.process_time() - used
        worked = {
            role: [now - then for now, then in zip(busy, before[role], strict=True)]
            for role, busy in self._busy().items()
        }
        return SimulatedRound(
            number, seconds, result.seconds,
            {role: sum(each) / len(each) for role, each in worked.items()},
            {role: max(each) for role, each in worked.items()},
            result.drawing_seconds,
            sum(len(group.samples_G) for group in result.groups_P),
            driver,
        )  # fmt: skip

    def _busy(self) -> dict[str, list[float]]:
        return {role: ray.get([actor.busy.remote() for actor in actors]) for role, actors in self._roles.items()}

    def close(self) -> None:
        """End the processes."""
        for host in self._hosts:
            ray.kill(host)


class _Prompts:
    """The same prompts for every round."""

    def __init__(self, config: RunConfig) -> None:
        self._prompts_P = [
            Prompt(f"simulated/{number}", "x" * 4 * PROMPT_TOKENS, False, 1, "simulated", "train")
            for number in range(config.prompts_per_round)
        ]

    def next_batch(self) -> list[Prompt]:
        """The prompts of a round."""
        return self._prompts_P


class SimulatedSender:
    """The policy's side of a sync."""

    can_resend = True

    def __init__(self, hosts: list[Any], seconds: float) -> None:
        self._hosts = hosts
        self._seconds = seconds

    def send_weights(self, version: int) -> None:
        """Wait, then every engine has them."""
        time.sleep(self._seconds)
        ray.get([host.take_weights.remote(version) for host in self._hosts])

    def resend(self, engine: int) -> None:
        """No simulated engine is lost."""
        raise RoundLost("simulated engines do not restart")
