"""The placement plan of a config (pure), and the bounded, never silent wait for its resources."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from rapo_ray.config import RunConfig
from rapo_ray.errors import PlacementError

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
    host: str | None = None  # name of the engine whose cards it shares: a guest reserves no GPU where that is placed
    card: int | None = None  # the host's card that it uses; None uses all of them

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
        bundles, _ = bundles_of((*self.inference, *self.training))
        return round(sum(bundle.get(resource, 0.0) for bundle in bundles), 6)

    def inference_only(self, engines: bool) -> "Plan":
        """The same without a learner, and without engines where the model is behind an endpoint."""
        return Plan(tuple(slot for slot in self.inference if engines or slot.role is Role.JUDGE))


def bundles_of(slots: Sequence[Slot]) -> tuple[list[Bundle], dict[str, int]]:
    """Bundles to reserve for these actors, and by name the bundle of each; a guest adds its CPUs to its host's."""
    names = {slot.name for slot in slots}
    owners = [slot for slot in slots if slot.host not in names]
    index = {slot.name: number for number, slot in enumerate(owners)}
    bundles = [dict(slot.takes) for slot in owners]
    for guest in (slot for slot in slots if slot.host in names):
        index[guest.name] = index[str(guest.host)]
        bundle = bundles[index[guest.name]]
        bundle["CPU"] = round(bundle["CPU"] + guest.takes["CPU"], 6)
    return bundles, index


def plan(config: RunConfig) -> Plan:
    """Every actor and what it takes; under `rollout.colocate` all but the engines are guests on an engine's cards."""
    rollout, policy = config.rollout, config.policy
    engines = [Slot(Role.ROLLOUT, index, _bundle(config, rollout.tensor_parallel)) for index in range(rollout.engines)]
    judges: list[Slot] = []
    for part, judge in config.judge.named().items():
        gpus = judge.tensor_parallel if judge.backend == "vllm" else 0
        for index in range(judge.actors):
            host = engines[index].name if config.shares_cards(judge) else None
            judges.append(Slot(Role.JUDGE, index, _bundle(config, gpus), part, host))
    if rollout.colocate:
        hosts = [(engine.name, card) for engine in engines for card in range(rollout.tensor_parallel)]
        ranks = [Slot(Role.POLICY, rank, _bundle(config, 1), None, *host) for rank, host in enumerate(hosts)]
        return Plan((*engines, *judges), tuple(ranks))
    training = [Slot(Role.POLICY, rank, _bundle(config, 1)) for rank in range(policy.ranks)]
    if policy.needs_reference:
        training += [Slot(Role.REFERENCE, index, _bundle(config, 1)) for index in range(config.reference.actors)]
    return Plan((*engines, *judges), tuple(training))


def _bundle(config: RunConfig, gpus: int) -> Bundle:
    bundle = {"CPU": config.cluster.cpus_per_actor}
    if config.cluster.device == "gpu" and gpus:
        bundle["GPU"] = float(gpus)
    return bundle


def check_fits(plan_: Plan, nodes: Sequence[Mapping[str, float]]) -> None:
    """Raises PlacementError where the cluster has less of a resource than the plan needs, or no node holds a bundle."""
    for resource in ("GPU", "CPU"):
        needed, there = plan_.total(resource), sum(node.get(resource, 0.0) for node in nodes)
        if needed > there + 1e-6:
            hint = "cluster.device=cpu runs without GPUs" if resource == "GPU" else "lower cluster.cpus_per_actor"
            raise PlacementError(
                f"the run needs {needed:g} {resource}s and the cluster has {there:g}: "
                f"ask for fewer actors, or join a larger cluster ({hint})"
            )
    bundles, index = bundles_of((*plan_.inference, *plan_.training))
    for name, number in index.items():
        bundle = bundles[number]
        if not any(all(node.get(each, 0.0) >= amount - 1e-6 for each, amount in bundle.items()) for node in nodes):
            takes = " and ".join(f"{bundle[each]:g} {each}s" for each in ("GPU", "CPU") if bundle.get(each))
            raise PlacementError(
                f"{name} and those beside it need {takes} on one node, and no node has them: lower "
                "rollout.tensor_parallel, judge.*.tensor_parallel or cluster.cpus_per_actor"
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
    slots = (*plan_.inference, *plan_.training)
    names = {slot.name for slot in slots}
    groups: dict[str, list[Slot]] = {}
    for slot in slots:
        groups.setdefault(slot.group, []).append(slot)
    rows = [("role", "actors", "CPUs each", "GPUs each")]
    for group, members in groups.items():
        cpus, gpus = (f"{max(slot.takes.get(resource, 0.0) for slot in members):g}" for resource in ("CPU", "GPU"))
        guests = gpus != "0" and any(slot.host in names for slot in members)
        rows.append((group, str(len(members)), cpus, f"{gpus} (shared)" if guests else gpus))
    rows.append(("all", str(len(slots)), f"{plan_.total('CPU'):g} in all", f"{plan_.total('GPU'):g} in all"))
    return "\n".join(f"{role:<16}{actors:>8}{cpus:>14}{gpus:>14}" for role, actors, cpus, gpus in rows)
