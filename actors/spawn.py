"""The one place that creates actors: placement groups, environments, names, and the wait until all are ready."""

import contextlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from actors.judge import ModelJudgeActor, RulesJudgeActor
from actors.judge_group import JudgeGroup
from actors.placement import Plan, Role, Slot, bundles_of, wait_for
from actors.policy import PolicyActor
from actors.ray_calls import get_all
from actors.reference import ReferenceActor
from actors.rollout import RolloutActor
from actors.rollout_group import Engines, RolloutGroup
from actors.training_group import PolicyAsReference, PolicyGroup, ReferenceGroup, SharedCards
from rapo_ray.config import RunConfig
from rapo_ray.config.judge import JudgeBackendConfig
from rapo_ray.engines.environment import cpu_threads, engine_environment
from rapo_ray.engines.memory import expected_tokens
from rapo_ray.engines.vllm_engine import EngineSettings
from rapo_ray.judging.backends import judge_spec
from rapo_ray.models.chat import PLAIN, ChatFormat
from rapo_ray.models.source import ModelSource
from rapo_ray.orchestrator.weight_sync import PolicyToEngines
from rapo_ray.roles import Reference

log = logging.getLogger(__name__)

# Calls an actor takes at once: a stream of rollouts with its controls beside it, or many verdicts.
ENGINE_CONCURRENCY = 4
JUDGE_CONCURRENCY = 1000
INSTRUCTION_TOKENS = 384  # more than the instructions of the synthesis take


@dataclass(frozen=True, slots=True)
class Place:
    """The bundle of a placement group that one actor lives in."""

    slot: Slot
    group: PlacementGroup
    bundle: int


@dataclass(slots=True)
class Spawner:
    """Creates a run's actors and kills them; nothing outlives `close`."""

    config: RunConfig
    plan: Plan
    chat: ChatFormat = PLAIN  # of the policy
    _handles: list[Any] = field(default_factory=list)
    _groups: list[PlacementGroup] = field(default_factory=list)
    _guests: list[Place] = field(default_factory=list)  # places on engines' cards for the policy's ranks
    _devices: dict[str, list[str]] = field(default_factory=dict)  # of each engine, as CUDA numbers them on its node

    def start_inference(self, model: Path, judge_models: dict[str, Path]) -> tuple[RolloutGroup, JudgeGroup]:
        """Start all engines and judges in parallel, and wait until they are ready."""
        config = self.config
        guests = [slot for slot in self.plan.training if slot.host is not None]
        places = self._reserve([*self.plan.inference, *guests], "rollout engines and judges")
        self._guests = places[len(self.plan.inference) :]
        engines = [self._engine(place, model) for place in places if place.slot.role is Role.ROLLOUT]
        if any(place.slot.host for place in places):  # vLLM measures a GPU's memory as it starts, neighbours included
            self._wait_ready([engine.ready.remote() for engine in engines], "rollout engines")
            devices = ray.get([engine.devices.remote() for engine in engines])
            self._devices = {f"{Role.ROLLOUT}-{index}": each for index, each in enumerate(devices)}
        judges: dict[str, list[Any]] = {}
        for part, backend in config.judge.named().items():
            own = [place for place in places if place.slot.part == part]
            judges[part] = [self._judge(place, part, backend, judge_models.get(part)) for place in own]
            if any(place.slot.host for place in own):
                self._wait_ready([judge.ready.remote() for judge in judges[part]], f"{part} judges")
        everyone = [*engines, *(judge for part in judges.values() for judge in part)]
        self._wait_ready([actor.ready.remote() for actor in everyone], "rollout engines and judges")
        self._warn(judge for part in judges.values() for judge in part)
        share, consistency = config.judge.second_share, config.judge.checks_consistency
        general, second = judges.get("general", []), judges.get("second", [])
        return (
            RolloutGroup(Engines(engines, config.limits), config.rollout, config.seed, config.warmup.max_new_tokens),
            JudgeGroup(judges["risk"], general, config.limits, second, share, consistency),
        )

    def start_training(
        self, model: Path, rollouts: RolloutGroup, judges: JudgeGroup
    ) -> tuple[PolicyGroup, Reference | None, PolicyToEngines]:
        """Start policy and reference from `model`, and connect the policy to the engines."""
        config = self.config
        cards = SharedCards(rollouts, judges) if config.rollout.colocate else None
        if cards is not None:
            cards.free()
        places = self._guests or self._reserve(self.plan.training, "policy and reference")
        ranks = [self._policy(place) for place in places if place.slot.role is Role.POLICY]
        references = [self._reference(place, model) for place in places if place.slot.role is Role.REFERENCE]
        address, port = get_all([ranks[0].rendezvous.remote()], config.limits.start, "rendezvous", "limits.start")[0]
        steps, source = config.rounds * config.policy.steps_per_round, ModelSource.of(model)
        started = [
            rank.start.remote(address, port, source, config.rollout.temperature, steps, config.seed) for rank in ranks
        ]
        self._wait_ready([*started, *(actor.ready.remote() for actor in references)], "policy and reference")
        self._connect(ranks, rollouts.engines.actors)
        policy = PolicyGroup(ranks, config.policy, config.limits, cards)
        limits = (config.reference.micro_batch_tokens, config.policy.row_tokens)
        reference: Reference | None = None
        if references:
            reference = ReferenceGroup(references, config.limits, *limits)
        elif config.policy.needs_reference:
            reference = PolicyAsReference(policy, *limits)
        return policy, reference, PolicyToEngines(policy, rollouts.engines)

    def close(self) -> None:
        """Kill every actor and remove every placement group."""
        for handle in self._handles:
            with contextlib.suppress(Exception):  # an actor that is dead already is what we want
                ray.kill(handle)
        for group in self._groups:
            with contextlib.suppress(Exception):
                remove_placement_group(group)
        self._handles.clear()
        self._groups.clear()
        self._guests.clear()

    def _connect(self, ranks: list[Any], engines: list[Any]) -> None:
        config = self.config
        backend, workers = weight_backend(config), config.rollout.tensor_parallel
        connected = [
            rank.connect_engines.remote(engines, backend, workers, config.rollout.dtype, config.limits.sync)
            for rank in ranks
        ]
        get_all(connected, config.limits.start, "connecting the policy to the engines", "limits.start")

    def _reserve(self, slots: Sequence[Slot], what: str) -> list[Place]:
        """Wait for what the actors take; their places in the same order."""
        bundles, index = bundles_of(slots)
        group: PlacementGroup = placement_group(bundles, strategy=self.config.cluster.placement)
        self._groups.append(group)
        needed = {name: sum(bundle.get(name, 0.0) for bundle in bundles) for name in ("GPU", "CPU")}

        def describe() -> str:
            free = ray.available_resources()
            parts = [f"{needed[name]:g} {name}s ({free.get(name, 0.0):g} free)" for name in needed if needed[name]]
            return f"waiting for {' and '.join(parts)} for {what}"

        wait_for(lambda seconds: bool(group.wait(seconds)), describe, self.config.limits.start, log.warning)
        return [Place(slot, group, index[slot.name]) for slot in slots]

    def _warn(self, judges: Iterable[Any]) -> None:
        """Log the judges' warnings, each once."""
        calls = [judge.warning.remote() for judge in judges]
        for line in dict.fromkeys(filter(None, get_all(calls, self._limit, "the judges' warnings", "limits.start"))):
            log.warning(line)

    def _wait_ready(self, refs: list[Any], what: str) -> None:
        left = list(refs)

        def ready(seconds: float) -> bool:
            nonlocal left
            done, left = ray.wait(left, num_returns=len(left), timeout=seconds)
            get_all(done, seconds, f"starting {what}", "limits.start")
            return not left

        wait_for(ready, lambda: f"waiting for {len(left)} of {len(refs)} {what} to start", self._limit, log.info)

    @property
    def _limit(self) -> float:
        return self.config.limits.start

    def _create(self, cls: type, place: Place, env: dict[str, str], concurrency: int | None, **restarts: int) -> Any:
        options: dict[str, Any] = {"max_restarts": 0, "max_task_retries": 0, **restarts}
        if concurrency:
            options["max_concurrency"] = concurrency
        strategy = PlacementGroupSchedulingStrategy(place.group, placement_group_bundle_index=place.bundle)
        slot = place.slot
        devices = self._devices.get(slot.host or "")
        if devices:  # a guest reserves no GPU: it sees those of its host
            shown = devices if slot.card is None else [devices[slot.card]]
            env = env | {"CUDA_VISIBLE_DEVICES": ",".join(shown), "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
        return ray.remote(cls).options(
            name=slot.name,
            num_cpus=slot.takes.get("CPU", 0),
            num_gpus=0 if devices else slot.takes.get("GPU", 0),
            scheduling_strategy=strategy,
            runtime_env={"env_vars": env},
            **options,
        )

    def _start(self, created: Any, *arguments: object) -> Any:
        handle = created.remote(*arguments)
        self._handles.append(handle)
        return handle

    def _engine(self, place: Place, model: Path) -> Any:
        config, rollout = self.config, self.config.rollout
        settings = EngineSettings(
            model=ModelSource.of(model),
            dtype=rollout.dtype,
            max_model_len=context_length(config),
            max_num_seqs=rollout.max_num_seqs,
            tensor_parallel=rollout.tensor_parallel,
            memory_share=rollout.memory_share,
            enforce_eager=config.eager,
            chunked_prefill=config.cluster.device == "gpu",
            seed=config.seed,
            weight_backend=weight_backend(config),
            sleeps=rollout.colocate and config.cluster.device == "gpu",
            expected_tokens=expected_tokens(rollout.max_prompt_tokens, rollout.max_new_tokens),
            chat=self.chat,
        )
        env = self._env(threads(config, rollout.engines), rollout.kv_cache_gib)
        created = self._create(RolloutActor, place, env, ENGINE_CONCURRENCY, max_restarts=config.limits.restarts)
        return self._start(created, place.slot.name, settings, config.model.system_prompt, rollout.max_prompt_tokens)

    def _judge(self, place: Place, part: str, judge: JudgeBackendConfig, model: Path | None) -> Any:
        config = self.config
        env = self._env(threads(config, judge.actors), judge.kv_cache_gib)
        if judge.backend == "rules":
            created = self._create(RulesJudgeActor, place, env, None, **self._stateless)
            return self._start(created, place.slot.name, self.chat)
        spec = judge_spec(config, part, model)
        created = self._create(ModelJudgeActor, place, env, JUDGE_CONCURRENCY, **self._stateless)
        return self._start(created, place.slot.name, spec, self.chat)

    def _policy(self, place: Place) -> Any:
        config = self.config
        created = self._create(PolicyActor, place, self._env(threads(config, config.policy.ranks)), None)
        shared = config.rollout.colocate
        return self._start(created, place.slot.name, config.policy, place.slot.index, config.cluster.device, shared)

    def _reference(self, place: Place, model: Path) -> Any:
        config = self.config
        env = self._env(threads(config, config.reference.actors))
        created = self._create(ReferenceActor, place, env, None, **self._stateless)
        temperature, device = config.rollout.temperature, config.cluster.device
        return self._start(created, place.slot.name, ModelSource.of(model), config.policy.dtype, temperature, device)

    @property
    def _stateless(self) -> dict[str, int]:
        """Options of stateless actors, which Ray may restart and call again."""
        restarts = self.config.limits.restarts
        return {"max_restarts": restarts, "max_task_retries": restarts}

    def _env(self, num_threads: int, kv_cache_gib: int | None = None) -> dict[str, str]:
        return engine_environment(self.config.cluster.device, num_threads, kv_cache_gib)


def context_length(config: RunConfig) -> int:
    """Tokens an engine must hold: a prompt and its completion, or what the synthesis writes one after the other."""
    rollout, warmup = config.rollout, config.warmup
    written = rollout.max_new_tokens
    if warmup.source == "synthesis":
        written = max(written, INSTRUCTION_TOKENS + 2 * warmup.max_new_tokens)  # a trace, and a completion behind it
    return rollout.max_prompt_tokens + written


def weight_backend(config: RunConfig) -> str:
    """The weight transfer backend: shared memory on CPUs, CUDA IPC on GPUs in turns, nccl between GPUs."""
    if config.cluster.device == "cpu":
        return "shm"
    return "ipc" if config.rollout.colocate else "nccl"


def threads(config: RunConfig, actors: int) -> int:
    """CPU threads of one of a role's actors, which share the cores."""
    return cpu_threads(config.cluster.device, actors)
