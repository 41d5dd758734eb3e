"""From a config to what each actor reserves (pure), and the wait for it (bounded, and never silent)."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from rapo_ray.config import RunConfig
from rapo_ray.errors import PlacementError

# Of a GPU that engine, policy and reference share. More than half is the engine's, so that no GPU gets two of them.
ENGINE_SHARE, POLICY_SHARE, REFERENCE_SHARE = 0.51, 0.39, 0.1
SAY_EVERY = 10.0  # seconds between words while waiting

Bundle = dict[str, float]


@dataclass(frozen=True, slots=True)
class Plan:
    """What each actor takes: engines and judges live all the run, policy and reference start after the warm-up."""

    serving: dict[str, Bundle]
    training: dict[str, Bundle]
    hosts: dict[str, str] = field(default_factory=dict)  # judge -> the engine whose GPU it shares

    def total(self, resource: str) -> float:
        """What the whole run needs of a resource at once."""
        bundles = [*self.serving.values(), *self.training.values()]
        return round(sum(bundle.get(resource, 0.0) for bundle in bundles), 6)

    def reserved(self, actors: dict[str, Bundle]) -> tuple[list[Bundle], dict[str, int]]:
        """Bundles to reserve for these actors, and which of them each actor lives in; a guest adds to its host's."""
        owners = [name for name in actors if name not in self.hosts]
        bundles = [dict(actors[name]) for name in owners]
        index = {name: owners.index(self.hosts.get(name, name)) for name in actors}
        for guest, host in self.hosts.items():
            if guest in actors:
                for resource, amount in actors[guest].items():
                    bundle = bundles[index[host]]
                    bundle[resource] = round(bundle.get(resource, 0.0) + amount, 6)
        return bundles, index


def plan(config: RunConfig) -> Plan:
    """Every actor's name and what it takes."""
    whole = (float(config.rollout.tensor_parallel), 1.0, 1.0)
    shares = (ENGINE_SHARE, POLICY_SHARE, REFERENCE_SHARE) if config.rollout.colocate else whole
    engine, policy, reference = (_bundle(config, gpus) for gpus in shares)
    serving = {f"rollout-{index}": dict(engine) for index in range(config.rollout.engines)}
    hosts: dict[str, str] = {}
    for part, judge in config.judge.named().items():
        gpus = float(judge.tensor_parallel) if judge.backend == "vllm" else 0.0
        for index in range(judge.actors):
            name, host = f"judge-{part}-{index}", f"rollout-{index}"
            if judge.share_rollout_gpu:
                gpus = judge.memory_share
                hosts[name] = host
                if "GPU" in serving[host]:
                    serving[host]["GPU"] = round(serving[host]["GPU"] - gpus, 6)
            serving[name] = _bundle(config, gpus)
    training = {f"policy-{rank}": dict(policy) for rank in range(config.policy.ranks)}
    if config.policy.needs_reference:
        training |= {f"reference-{index}": dict(reference) for index in range(config.reference.actors)}
    return Plan(serving, training, hosts)


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
    """Poll `ready(seconds)` until it holds; says what it waits for, and raises PlacementError at the limit."""
    started = time.monotonic()
    waited = 0.0
    while not ready(min(SAY_EVERY, limit - waited)):
        waited = time.monotonic() - started
        if waited >= limit:
            raise PlacementError(f"gave up after {waited:.0f} s (limits.start={limit:g}): {describe()}")
        say(f"{describe()}, {waited:.0f} s so far")


def describe(plan_: Plan) -> str:
    """The plan as a table for people, a line for each role: how many actors, and what each takes."""
    roles: dict[str, list[Bundle]] = {}
    for name, bundle in [*plan_.serving.items(), *plan_.training.items()]:
        roles.setdefault(name.rpartition("-")[0], []).append(bundle)
    rows = [("role", "actors", "CPUs each", "GPUs each")]
    for role, bundles in roles.items():
        each = [f"{max(bundle.get(resource, 0.0) for bundle in bundles):g}" for resource in ("CPU", "GPU")]
        rows.append((role, str(len(bundles)), each[0], each[1]))
    count = sum(len(bundles) for bundles in roles.values())
    rows.append(("all", str(count), f"{plan_.total('CPU'):g} in all", f"{plan_.total('GPU'):g} in all"))
    return "\n".join(f"{role:<16}{actors:>8}{cpus:>14}{gpus:>14}" for role, actors, cpus, gpus in rows)
