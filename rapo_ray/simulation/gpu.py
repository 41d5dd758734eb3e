"""Times of a layout on GPUs by arithmetic (pure): a profile where there is no run to take it from.

Bytes over a link's rate, operations over a share of the card's peak, and seconds of the processor. Each share and each
constant says what it rests on; none is fitted, and none has been measured on a GPU. Optimizer steps are left out, those
of `policy.offload` too: they take seconds of a round's minutes.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from rapo_ray.config import RunConfig
from rapo_ray.engines.memory import engine_memory, expected_tokens
from rapo_ray.errors import ConfigError
from rapo_ray.models.shape import ModelShape
from rapo_ray.simulation.profile import PROMPT_TOKENS, Profile
from rapo_ray.trainer.memory import ADAPTER_SHARE

GIB = float(1 << 30)


@dataclass(frozen=True, slots=True)
class GpuCard:
    """A GPU's size and rates as its data sheet has them, in operations and bytes a second."""

    name: str
    memory_gib: float
    operations: float  # dense bf16
    memory: float
    host_link: float  # to host memory, each way
    card_link: float  # to the other cards of its node, each way
    node_link: float  # to cards of other nodes, each way


CARDS_A_NODE = 8
CARDS = {"h100": GpuCard("H100 80 GB SXM", 80, 989e12, 3.35e12, 25e9, 450e9, 50e9)}  # a 400 Gb/s adapter a card

READING = 0.8  # of the memory's rate that a decoding step reaches; plain copies reach about 0.9
FORWARD = 0.5  # of the peak in a forward pass over many tokens: reading prompts, judging, the reference
LEARNING = 0.4  # of the peak in an update: what the GPU check is to show at least

# Of the processor: a step of 256 sequences costs 5.6 ms with detokenising and 1.5 ms without, and the tail of an eager
# 8B is about 3 times as slow as that of a graph, which is 17 ms a step for 36 layers.
DETOKENISING = 5.6e-3 / 256  # of one sequence's step, scheduling included
SCHEDULING = 1.5e-3 / 256  # of one sequence's step
LAUNCHES = 17e-3 / 36  # of one layer's kernels, one by one

ALL_REDUCE = 10e-6  # of a step's hidden states between the cards of an engine, twice a layer; a small message's latency
LOADING = 16e9  # bytes a second that an engine loads from card memory: 8B in about one second
SHARED_MEMORY = 0.75e9  # bytes a second through /dev/shm: 8B in 15 to 30 seconds
OPTIMIZER_BYTES = 12  # of a trained parameter: float32 weight and Adam's two moments
RUBRIC_TOKENS = 250  # of a judge's question without its material
REPLY_TOKENS = {"choice": 20, "label": 1}  # of a judge's reply
MEAN_SHARE = 0.5  # of rollout.max_new_tokens that a completion has on average, where nobody says


@dataclass(frozen=True, slots=True)
class Decoder:
    """A model on the cards of one engine, or of one trainer's rank."""

    shape: ModelShape
    card: GpuCard
    cards: int = 1

    @property
    def multiplied(self) -> int:
        """Parameters that each token is multiplied with: all but an embedding that is no head."""
        return self.shape.parameters - (0 if self.shape.tied else self.shape.vocabulary * self.shape.hidden)

    def forward(self, tokens: float) -> float:
        """Operations of one token's forward pass in a row of so many."""
        return 2 * self.multiplied + 2 * self.shape.layers * self.shape.query_width * tokens

    def reading(self, tokens: float) -> float:
        """Seconds for a row of so many tokens in one forward pass."""
        return tokens * self.forward(tokens) / (self.cards * FORWARD * self.card.operations)

    def profile(self, eager: bool, sequence_seconds: float) -> Profile:
        """Decoding alone; every other time is the default."""
        rate = READING * self.card.memory * self.cards
        reduced = 2 * self.shape.layers * ALL_REDUCE if self.cards > 1 else 0.0
        return Profile(
            step_seconds=2 * self.multiplied / rate + reduced,
            launch_seconds=LAUNCHES * self.shape.layers if eager else 0.0,
            arithmetic_seconds=2 * self.multiplied / (self.cards * FORWARD * self.card.operations),
            cached_token_seconds=self.shape.key_value_bytes / rate,
            sequence_seconds=sequence_seconds,
        )


def gpu_profile(
    config: RunConfig,
    shapes: Mapping[str, ModelShape],
    card: GpuCard,
    completion_tokens: float | None = None,
    detokenising: bool = False,
) -> Profile:
    """Times of a config's roles on such cards; raises ConfigError for a judge behind an endpoint.

    `shapes` has the policy's under "policy" and a vllm judge's under its part; `completion_tokens` is the mean length.
    With `detokenising`, engines turn each token into text as it comes, not each completion at its end.
    """
    shape, rollout = shapes["policy"], config.rollout
    mean = completion_tokens or MEAN_SHARE * rollout.max_new_tokens
    host = DETOKENISING if detokenising else SCHEDULING
    engine = Decoder(shape, card, rollout.tensor_parallel)
    expected = expected_tokens(rollout.max_prompt_tokens, rollout.max_new_tokens)
    running = _running(engine, config, rollout.memory_share, rollout.max_num_seqs, expected)
    return engine.profile(config.eager, host).model_copy(
        update={
            "prompt_seconds": engine.reading(PROMPT_TOKENS),
            "running_sequences": running,
            "completion_tokens": mean,
            "judge_seconds": _judging(config, shapes, card, mean, host),
            "reference_tokens_per_second": _reference_rate(config, shape, card, mean),
            "update_tokens_per_second": _update_rate(config, shape, card, mean),
            "sync_seconds": _sync(config, shape, card),
            "turn_seconds": _held(config, shape) / card.host_link,
            "swap_seconds": 0.0 if config.policy.lora_rank else 4 * _weights(config, shape) / card.host_link,
            "judge_turn_seconds": _judge_weights(config, shapes) / card.host_link,
        }
    )


def _running(model: Decoder, config: RunConfig, share: float, most: int, tokens: float) -> int:
    """Sequences of so many tokens that an engine's cache holds, at most as many as it may run."""
    size = (config.cluster.gpu_memory_gib or model.card.memory_gib) * GIB
    memory = engine_memory(model.shape, size, share, model.cards, most, config.eager)
    return max(1, min(most, memory.sequences(round(tokens))))


def _judging(config: RunConfig, shapes: Mapping[str, ModelShape], card: GpuCard, mean: float, host: float) -> float:
    """Seconds a judgement of a busy judge: it reads the whole completion, and replies beside as many as it can run.

    A trace and an answer are read in truth, not the rest of the thinking: an upper bound.
    """
    judge = config.judge.risk
    if judge.backend == "rules":
        return Profile().judge_seconds
    if judge.backend == "http":
        raise ConfigError("judge.risk.backend=http: no times are known for it; set vllm, or give a --profile")
    model = Decoder(shapes["risk"], card, judge.tensor_parallel)
    tokens = RUBRIC_TOKENS + PROMPT_TOKENS + mean
    running = _running(model, config, judge.memory_share, judge.max_num_seqs, judge.max_model_len / 2)
    step = model.profile(config.eager, host).decoding_step(running, running * tokens)
    return model.reading(tokens) + REPLY_TOKENS.get(judge.reply, judge.max_reply_tokens) * step / running


def _judge_weights(config: RunConfig, shapes: Mapping[str, ModelShape]) -> float:
    """Bytes of a judge's weights on a card."""
    return 2 * shapes["risk"].parameters / config.judge.risk.tensor_parallel if "risk" in shapes else 0.0


def _reference_rate(config: RunConfig, shape: ModelShape, card: GpuCard, mean: float) -> float:
    """Tokens a second of a reference actor, or of a policy's rank in its place."""
    alone = FORWARD * card.operations / Decoder(shape, card).forward(mean)
    if not config.rollout.colocate:
        return alone
    gathered = 2 * shape.parameters if config.policy.zero_stage == 3 else 0
    return _overlapped(alone, gathered, config.reference.micro_batch_tokens, config, card)


def _update_rate(config: RunConfig, shape: ModelShape, card: GpuCard, mean: float) -> float:
    """Tokens a second that a rank learns from: forward, forward again where checkpointed, and backward."""
    policy = config.policy
    passes = 2 + policy.gradient_checkpointing + (0 if policy.lora_rank else 1)  # adapters: no gradients of weights
    alone = LEARNING * card.operations / (passes * Decoder(shape, card).forward(mean))
    gathered = 4 * shape.parameters if policy.zero_stage == 3 else 0
    reduced = 2 * _trained(config, shape)
    return _overlapped(alone, gathered + reduced, policy.micro_batch_tokens, config, card)


def _overlapped(alone: float, traffic: float, tokens: int, config: RunConfig, card: GpuCard) -> float:
    """Tokens a second where each micro-batch of `tokens` also moves `traffic` bytes beside its arithmetic."""
    if not traffic or config.policy.ranks == 1:
        return alone
    return min(alone, tokens * _link(config, card) / traffic)


def _link(config: RunConfig, card: GpuCard) -> float:
    return card.card_link if config.policy.ranks <= CARDS_A_NODE else card.node_link


def _trained(config: RunConfig, shape: ModelShape) -> float:
    return shape.parameters * (ADAPTER_SHARE if config.policy.lora_rank else 1.0)


def _weights(config: RunConfig, shape: ModelShape) -> float:
    """Bytes of 16-bit weights that a rank holds."""
    return 2 * shape.parameters / (config.policy.ranks if config.policy.zero_stage == 3 else 1)


def _held(config: RunConfig, shape: ModelShape) -> float:
    """Bytes of a rank's states on its card: 18 a parameter over the ranks with ZeRO-3, whose gradients move too."""
    policy = config.policy
    optimizer = OPTIMIZER_BYTES * _trained(config, shape) / (policy.ranks if policy.zero_stage else 1)
    gradients = 4 * _trained(config, shape) / policy.ranks if policy.zero_stage == 3 else 0.0
    return _weights(config, shape) + (0.0 if policy.offload else optimizer + gradients)


def _sync(config: RunConfig, shape: ModelShape, card: GpuCard) -> float:
    """Seconds to gather the weights and load them: by shared memory on CPU, CUDA IPC on shared cards, or nccl."""
    size = 2 * shape.parameters
    if config.cluster.device == "cpu":
        return size / SHARED_MEMORY
    moved = (config.policy.zero_stage == 3 and config.policy.ranks > 1) + (not config.rollout.colocate)
    return size / LOADING + moved * size / _link(config, card)
