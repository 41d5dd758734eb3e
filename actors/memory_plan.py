"""The memory plan of a run on GPUs: what each card holds at its fullest, and a setting that makes it fit.

An estimate from the models' shapes, unverified on a GPU: what vLLM and DeepSpeed really take may differ.
"""

import json
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from rapo_ray.config import RunConfig
from rapo_ray.engines.memory import CONTEXT, EngineMemory, engine_memory, expected_tokens
from rapo_ray.errors import ModelError, PlacementError
from rapo_ray.models.shape import ModelShape, shape_of_model
from rapo_ray.trainer.memory import TrainerMemory, policy_memory, reference_memory, sync_buffers, warmup_memory

GIB = float(1 << 30)
DEFAULT_CARD = 80 * GIB
RESERVE = 0.05  # share of a card that stays free, for fragmentation and for what an estimate misses

Shapes = Mapping[str, ModelShape]  # of the policy under "policy", of a vllm judge under its part


@dataclass(frozen=True, slots=True)
class Card:
    """Cards that hold the same: the bytes of each tenant at the card's fullest moment."""

    count: int
    tenants: dict[str, float]
    details: dict[str, float] = field(default_factory=dict)  # bytes of the largest tenant by part
    phase: str = ""  # of cards that roles take turns on: their turn
    sequences: dict[str, int] = field(default_factory=dict)  # of expected length, that each engine's KV cache holds
    short: str = ""  # the engine whose cache does not hold one sequence at its limit

    @property
    def peak(self) -> float:
        """Bytes at the fullest moment."""
        return sum(self.tenants.values())


def model_shapes(config: RunConfig) -> Shapes | None:
    """Shapes of all models that live on cards; None where one is not known before it is fetched."""
    judges = {part: str(judge.model) for part, judge in config.judge.named().items() if judge.backend == "vllm"}
    shapes = {part: shape_of_model(spec) for part, spec in {"policy": config.model.path, **judges}.items()}
    known = {part: shape for part, shape in shapes.items() if shape is not None}
    return known if len(known) == len(shapes) else None


def card_memory(config: RunConfig) -> float:
    """Bytes of one GPU: of the config, else of the smallest on this node, else 80 GiB."""
    if config.cluster.gpu_memory_gib is not None:
        return config.cluster.gpu_memory_gib * GIB
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        lines = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True).stdout.split()
        return min(float(line) for line in lines) * (1 << 20)
    except (OSError, ValueError, subprocess.SubprocessError):
        return DEFAULT_CARD


def longest_row(config: RunConfig) -> int:
    """Tokens of the longest training row."""
    return max(config.policy.row_tokens, config.rollout.max_prompt_tokens + config.rollout.max_new_tokens)


def plan_memory(config: RunConfig, shapes: Shapes, card_bytes: float) -> list[Card]:
    """All cards of a run; empty on CPU."""
    if config.cluster.device == "cpu":
        return []
    rollout = config.rollout
    engine = engine_memory(
        shapes["policy"], card_bytes, rollout.memory_share, rollout.tensor_parallel, rollout.max_num_seqs, config.eager
    )
    policy = policy_memory(shapes["policy"], config.policy, longest_row(config))
    judges = {
        part: engine_memory(
            shapes[part], card_bytes, judge.memory_share, judge.tensor_parallel, judge.max_num_seqs, config.eager
        )
        for part, judge in config.judge.named().items()
        if judge.backend == "vllm"
    }
    guests = {part: memory for part, memory in judges.items() if config.shares_cards(config.judge.named()[part])}
    lengths = (rollout.max_prompt_tokens, rollout.max_new_tokens)
    engines = _engine_card(
        "rollout", rollout.engines * rollout.tensor_parallel, engine, sum(lengths), expected_tokens(*lengths)
    )
    for part, memory in guests.items():
        engines = _with_guest(engines, f"judge-{part}", memory, config.judge.named()[part].max_model_len)
    if rollout.colocate:
        asleep = {"rollout": engine.asleep} | {f"judge-{part}": memory.asleep for part, memory in guests.items()}
        cards = _turns(engines, asleep, policy, sync_buffers(shapes["policy"]))
    else:
        cards = [engines, _trainer_card("policy", config.policy.ranks, policy)]
        if config.policy.needs_reference:
            passes = max(config.reference.micro_batch_tokens, longest_row(config))
            reference = reference_memory(shapes["policy"], passes, longest_row(config), config.policy.row_tokens)
            cards.append(_trainer_card("reference", config.reference.actors, reference))
    for part, memory in judges.items():
        judge = config.judge.named()[part]
        if part not in guests:
            count = judge.actors * judge.tensor_parallel
            cards.append(_engine_card(f"judge-{part}", count, memory, judge.max_model_len, judge.max_model_len))
    if config.warmup.source != "none":
        warmup = warmup_memory(shapes["policy"], config.policy, longest_row(config))
        cards.append(_trainer_card("warm-up", config.policy.ranks, warmup))
    return cards


def _trainer_card(name: str, count: int, memory: TrainerMemory) -> Card:
    return Card(count, {name: memory.peak}, {**memory.static, **memory.working})


def _engine_card(name: str, count: int, memory: EngineMemory, longest: int, expected: int) -> Card:
    details = {**memory.parts, "kv cache": memory.kv_cache}
    short = "" if memory.sequences(longest) else name
    return Card(count, {name: memory.total}, details, "", {name: memory.sequences(expected)}, short)


def _with_guest(card: Card, name: str, memory: EngineMemory, longest: int) -> Card:
    sequences = memory.sequences(longest)
    tenants, held = {**card.tenants, name: memory.total}, {**card.sequences, name: sequences}
    return replace(card, tenants=tenants, sequences=held, short=card.short or ("" if sequences else name))


def _turns(inference: Card, asleep: dict[str, float], policy: TrainerMemory, buffers: float) -> list[Card]:
    """The cards of the time-shared layout, once for each turn."""
    training = _trainer_card("policy", inference.count, policy)
    resting = {"policy": CONTEXT, "sync buffers": buffers}  # a restarted engine gets its weights while others generate
    return [
        replace(inference, tenants={**inference.tenants, **resting}, phase="while generating"),
        replace(training, tenants={**training.tenants, **asleep}, phase="while training"),
    ]


def describe_memory(cards: list[Card], card_bytes: float) -> str:
    """The plan as a table, a line for each kind of card."""
    rows = [f"{'cards':>5}  {'GiB':>6}  on each card of {card_bytes / GIB:.0f} GiB at its fullest (estimate)"]
    for card in cards:
        notes = [card.phase, _in_gib(card.details)]
        notes += [f"{name}'s cache holds {count} sequences" for name, count in card.sequences.items()]
        rows.append(
            f"{card.count:>5}  {card.peak / GIB:>6.1f}  {_in_gib(card.tenants)} ({'; '.join(filter(None, notes))})"
        )
    return "\n".join(rows)


def _in_gib(sizes: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {size / GIB:.1f}" for name, size in sizes.items() if size)


def fits(cards: list[Card], card_bytes: float) -> bool:
    """True where no card is fuller than allowed, and every engine's cache holds at least one sequence."""
    return all(not card.short and card.peak <= (1 - RESERVE) * card_bytes for card in cards)


def host_memory(config: RunConfig, shapes: Shapes) -> float:
    """Bytes of host memory that the time-shared layout fills over all nodes: states away from the cards, the weights
    that training started from, and those of sleeping judges.
    """
    policy = policy_memory(shapes["policy"], config.policy, longest_row(config)).static
    states = config.policy.ranks * (policy["weights"] + policy["optimizer"])
    starts = policy["weights"] * config.policy.ranks if config.policy.needs_reference else 0.0
    judges = {part: judge for part, judge in config.judge.named().items() if config.shares_cards(judge)}
    return states + starts + sum(2.0 * shapes[part].parameters * judge.actors for part, judge in judges.items())


def say_plan(config: RunConfig, say: Callable[[str], None]) -> None:
    """Show the plan of a run on GPUs and check it; raises PlacementError where it does not fit."""
    if config.cluster.device == "cpu":
        return
    try:
        shapes, card_bytes = model_shapes(config), card_memory(config)
    except ModelError as error:  # a model that the plan cannot count may run all the same
        say(f"no memory plan: {error}")
        return
    if shapes is None:
        say("no memory plan: a model is neither a local folder nor of a known shape; give its folder as model.path")
        return
    say(describe_memory(plan_memory(config, shapes, card_bytes), card_bytes))
    if config.rollout.colocate:
        say(f"host memory over all nodes, for what leaves the cards: {host_memory(config, shapes) / GIB:.0f} GiB")
    check_memory(config, shapes, card_bytes)


def check_memory(config: RunConfig, shapes: Shapes, card_bytes: float) -> None:
    """Raises PlacementError where a card cannot hold its part, with settings that would make the run fit."""
    cards = plan_memory(config, shapes, card_bytes)
    if fits(cards, card_bytes):
        return
    short = next((card for card in cards if card.short), None)
    fullest = short or max(cards, key=lambda card: card.peak)
    change = remedy(config, shapes, card_bytes)
    advice = f"set {' '.join(change)}" if change else "use a smaller model, or larger or more cards"
    lacking = f"leaves {fullest.short} no room for one sequence at its limit"
    problem = lacking if short else f"would hold {fullest.peak / GIB:.1f} GiB"
    size = f"a card of {card_bytes / GIB:.0f} GiB (cluster.gpu_memory_gib)"
    raise PlacementError(f"{size} {problem} ({_in_gib(fullest.tenants)}): {advice}")


def remedy(config: RunConfig, shapes: Shapes, card_bytes: float) -> list[str]:
    """The first settings of a fixed list, alone or together with those before, with which the run fits; else none."""
    changes = list(_changes(config))
    for tried in [[change] for change in changes] + [changes[:count] for count in range(2, len(changes) + 1)]:
        overrides = {key: value for change in tried for key, value in change.items()}
        tree = config.model_dump(mode="json")
        for key, value in overrides.items():
            section, name = key.split(".")
            tree[section][name] = value
        try:
            changed = RunConfig.model_validate(tree)
        except ValueError:  # settings that the config refuses together
            continue
        if fits(plan_memory(changed, shapes, card_bytes), card_bytes):
            return [f"{key}={json.dumps(value)}" for key, value in overrides.items()]
    return []


def _changes(config: RunConfig) -> Iterator[dict[str, Any]]:
    """Settings that save memory, those that cost the least first."""
    policy, rollout = config.policy, config.rollout
    if not policy.gradient_checkpointing:
        yield {"policy.gradient_checkpointing": True}
    if policy.micro_batch_tokens > longest_row(config):
        yield {"policy.micro_batch_tokens": longest_row(config)}
    if policy.needs_reference and config.reference.micro_batch_tokens > longest_row(config):
        yield {"reference.micro_batch_tokens": longest_row(config)}
    if policy.ranks > 1 and policy.zero_stage < 3:
        yield {"policy.zero_stage": 3}
    if rollout.memory_share > 0.5:
        yield {"rollout.memory_share": 0.5}
    if not policy.offload:
        yield {"policy.zero_stage": 3, "policy.offload": True}
    if not policy.lora_rank:
        yield {"policy.lora_rank": 16}
    if rollout.memory_share > 0.3:
        yield {"rollout.memory_share": 0.3}
