"""The placement plan of a config (pure), and the bounded, never silent wait for its resources."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from rapo_ray.config import RunConfig
from rapo_ray.errors import PlacementError

# Of a GPU that engine, policy and reference share. More than half is the engine's, so that no GPU gets two of them.
ENGINE_SHARE, POLICY_SHARE, REFERENCE_SHARE = 0.51, 0.39, 0.1
SAY_EVERY = 10.0  # seconds between two lines while waiting

Bundle = dict[str, float]


class Role(StrEnum):
    """The work of an actor."""

    ROLLOUT = "rollout"
    JUDGE = "judge"
    POLICY = "policy"
    REFERENCE = "reference"


@dataclass(frozen=True, slots=True)
class Slot:
    """One actor and what it reserves."""

    role: Role
    index: int
    takes: Bundle
    part: str | None = None  # of a judge: risk, general or second
    host: str | None = None  # name of the engine whose GPU a judge shares

    @property
    def group(self) -> str:
        """The role, and of a judge the part that it judges."""
        return self.role if self.part is None else f"{self.role}-{self.part}"

    @property
    def name(self) -> str:
        """The actor's name in the cluster."""
        return f"{self.group}-{self.index}"


@dataclass(frozen=True, slots=True)
class Plan:
    """All actors of a run: engines and judges live throughout, policy and reference start after the warm-up."""

    inference: tuple[Slot, ...]
    training: tuple[Slot, ...] = ()

    def total(self, resource: str) -> float:
        """The amount of a resource that the whole run needs at once."""
        return round(sum(slot.takes.get(resource, 0.0) for slot in (*self.inference, *self.training)), 6)

    def inference_only(self, engines: bool) -> "Plan":
        """The same without a learner, and without engines where the model is behind an endpoint."""
        return Plan(tuple(slot for slot in self.inference if engines or slot.role is Role.JUDGE))


def bundles_of(slots: Sequence[Slot]) -> tuple[list[Bundle], dict[str, int]]:
    """Bundles to reserve for these actors, and by name the bundle that each lives in; a guest adds to its host's."""
    names = {slot.name for slot in slots}
    owners = [slot for slot in slots if slot.host not in names]
    index = {slot.name: number for number, slot in enumerate(owners)}
    bundles = [dict(slot.takes) for slot in owners]
    for guest in (slot for slot in slots if slot.host in names):
        index[guest.name] = index[str(guest.host)]
        bundle = bundles[index[guest.name]]
        for resource, amount in guest.takes.items():
            bundle[resource] = round(bundle.get(resource, 0.0) + amount, 6)
    return bundles, index


def plan(config: RunConfig) -> Plan:
    """Every actor and what it takes."""
    whole = (float(config.rollout.tensor_parallel), 1.0, 1.0)
    shares = (ENGINE_SHARE, POLICY_SHARE, REFERENCE_SHARE) if config.rollout.colocate else whole
    engine, policy, reference = (_bundle(config, gpus) for gpus in shares)
    engines = [Slot(Role.ROLLOUT, index, dict(engine)) for index in range(config.rollout.engines)]
    judges: list[Slot] = []
    for part, judge in config.judge.named().items():
        gpus = float(judge.tensor_parallel) if judge.backend == "vllm" else 0.0
        for index in range(judge.actors):
            host = None
            if judge.share_rollout_gpu:
                gpus, host = judge.memory_share, engines[index].name
                takes = engines[index].takes
                if "GPU" in takes:
                    takes["GPU"] = round(takes["GPU"] - gpus, 6)
            judges.append(Slot(Role.JUDGE, index, _bundle(config, gpus), part, host))
    training = [Slot(Role.POLICY, rank, dict(policy)) for rank in range(config.policy.ranks)]
    if config.policy.needs_reference:
        training += [Slot(Role.REFERENCE, index, dict(reference)) for index in range(config.reference.actors)]
    return Plan((*engines, *judges), tuple(training))


def _bundle(config: RunConfig, gpus: float) -> Bundle:
    bundle = {"CPU": config.cluster.cpus_per_actor}
    if config.cluster.device == "gpu" and gpus:
        bundle["GPU"] = float(gpus)
    return bundle


def check_fits(plan_: Plan, available: dict[str, float]) -> None:
    """Raises PlacementError where the cluster has less of a resource than the plan needs."""
    for resource in ("GPU", "CPU"):
        needed, there = plan_.total(resource), available.get(resource, 0.0)
        if needed > there + 1e-6:
            hint = "cluster.device=cpu runs without GPUs" if resource == "GPU" else "lower cluster.cpus_per_actor"
            raise PlacementError(
                f"the run needs {needed:g} {resource}s and the cluster has {there:g}: "
                f"ask for fewer actors, or join a larger cluster ({hint})"
            )


def wait_for(
    ready: Callable[[float], bool], describe: Callable[[], str], limit: float, say: Callable[[str], None]
) -> None:
    """Poll `ready(seconds)` until it holds, say what is waited for, and raise PlacementError at the limit."""
    started = time.monotonic()
    waited = 0.0
    while not ready(min(SAY_EVERY, limit - waited)):
        waited = time.monotonic() - started
        if waited >= limit:
            raise PlacementError(f"gave up after {waited:.0f} s (limits.start={limit:g}): {describe()}")
        say(f"{describe()}, {waited:.0f} s so far")


def describe(plan_: Plan) -> str:
    """The plan as a table, a line for each role: its actors, and what each takes."""
    groups: dict[str, list[Slot]] = {}
    for slot in (*plan_.inference, *plan_.training):
        groups.setdefault(slot.group, []).append(slot)
    rows = [("role", "actors", "CPUs each", "GPUs each")]
    for group, slots in groups.items():
        each = [f"{max(slot.takes.get(resource, 0.0) for slot in slots):g}" for resource in ("CPU", "GPU")]
        rows.append((group, str(len(slots)), each[0], each[1]))
    count = len(plan_.inference) + len(plan_.training)
    rows.append(("all", str(count), f"{plan_.total('CPU'):g} in all", f"{plan_.total('GPU'):g} in all"))
    return "\n".join(f"{role:<16}{actors:>8}{cpus:>14}{gpus:>14}" for role, actors, cpus, gpus in rows)
