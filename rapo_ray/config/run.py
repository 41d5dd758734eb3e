"""The run's configuration: one model per role, each field documented where it is defined.

Order of precedence: defaults < recipe file < dotted overrides on the command line. Unknown keys fail.
"""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from rapo_ray.config.base import Dtype, Strict
from rapo_ray.config.evaluation import EvaluationConfig, FollowConfig, GatesConfig
from rapo_ray.config.judge import JudgeConfig
from rapo_ray.config.learning import CreditConfig, PolicyConfig, ReferenceConfig
from rapo_ray.config.sinks import SinksConfig
from rapo_ray.config.sources import SourceConfig

MAX_SHARED_MEMORY = 0.95  # of a GPU that engines and judges share; the rest is what each process takes beside


class ModelConfig(Strict):
    """The model that is aligned."""

    path: str = "embedded:smollm2-135m"
    """A hub id, a local folder, or `embedded:smollm2-135m`."""
    revision: str | None = None
    """Commit of the hub model; pin it for a run that others should repeat."""
    system_prompt: str | None = None
    """System message of every prompt; none leaves it to the model's chat template."""


class DataConfig(Strict):
    """Where prompts come from."""

    train: str = "quickstart:all"
    """Prompts of the rounds, as `name:n,name:n`; `all` takes every row, a number takes a seeded sample."""
    heldout: str = "quickstart-heldout:all"
    """Prompts that measure base, sft and rapo, sampled as in the rounds; never trained on."""
    heldout_samples: int = Field(default=1, ge=1)
    """Completions of each held-out prompt for sft and rapo; base, which no difference is taken to, has one."""
    evaluation: str | None = None
    """Prompts of evaluation suites, as `name:n,name:n`; with the held-out ones they may not be trained on."""
    contamination: Literal["refuse", "keep and accept contaminated figures"] = "refuse"
    """`refuse` leaves training prompts and demonstrations out that a suite holds; the other words keep them."""
    sources: dict[str, SourceConfig] = Field(default_factory=dict)
    """Named data files; `quickstart` and `quickstart-heldout` come with the package."""
    max_bad_share: float = Field(default=0.05, ge=0, le=1)
    """Share of a source's rows that may be quarantined before the run stops."""


class WarmupConfig(Strict):
    """Stage 1: supervised warm-up that teaches the format."""

    source: Literal["demonstrations", "synthesis", "none"] = "demonstrations"
    """`demonstrations` takes the packaged ones or `path`; `synthesis` lets the model write its own; `none` skips."""
    path: Path | None = None
    """JSONL of demonstrations (`text`, `harmful`, `level`, `completion`); none takes the packaged ones."""
    recipe: str | None = None
    """Prompts for synthesis, as `name:n,name:n`."""
    epochs: int = Field(default=1, ge=1)
    """Passes over the demonstrations."""
    batch_size: int = Field(default=8, ge=1)
    """Demonstrations an optimizer step."""
    learning_rate: float = Field(default=5e-5, gt=0)
    """Peak learning rate; it warms up over a tenth of the steps and decays linearly."""
    max_new_tokens: int = Field(default=2048, ge=16)
    """Token limit of a synthesised trace or completion; what reaches it is dropped."""
    min_trace_chars: int = Field(default=64, ge=0)
    """A synthesised trace shorter than this is dropped."""

    @model_validator(mode="after")
    def _synthesis_needs_prompts(self) -> Self:
        if self.source == "synthesis" and not self.recipe:
            raise ValueError("warmup.source=synthesis needs warmup.recipe, for example `stratasword:400`")
        return self


class RolloutConfig(Strict):
    """The vLLM engines that sample completions."""

    engines: int = Field(default=1, ge=1)
    """Number of engines; prompts are dealt over them in order."""
    tensor_parallel: int = Field(default=1, ge=1)
    """GPUs of one engine."""
    dtype: Dtype = "bfloat16"
    """Weights and arithmetic of the engines. float32 on CPUs without native bf16."""
    temperature: float = Field(default=1.0, gt=0)
    """Sampling temperature; log-probs are taken at this temperature on both sides."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus mass; below 1 the importance ratio would be biased by the kept mass."""
    max_new_tokens: int = Field(default=2048, ge=1)
    """Token limit of a completion; what reaches it is truncated, its own verdict."""
    max_prompt_tokens: int = Field(default=1024, ge=1)
    """A longer prompt stops the run before the first round, by name."""
    max_num_seqs: int = Field(default=256, ge=1)
    """Sequences an engine runs at once."""
    staleness: Literal[0, 1] = 0
    """Versions by which a round may lag: with 1 the next one is drawn while the policy learns from this one.

    The round after a checkpoint is always drawn with the newest weights, so that a resumed run repeats exactly: let
    `checkpoint.every` be more than 1.
    """
    memory_share: float = Field(default=0.85, gt=0, lt=1)
    """Share of a GPU's memory that an engine may take."""
    colocate: bool = False
    """Engines share the GPUs of policy and reference, on one node: they sleep while the policy learns (their weights go
    to host memory), and take new weights through shared memory. `memory_share` must leave room for the policy.
    """
    kv_cache_gib: int = Field(default=1, ge=1)
    """Key-value cache of an engine on CPU, in GiB."""
    enforce_eager: bool = True
    """Skip graph capture and compilation; compilation pays on GPU and for long runs."""


class CheckpointConfig(Strict):
    """When and how many checkpoints."""

    every: int = Field(default=1, ge=1)
    """Rounds between checkpoints; the last round always writes one."""
    keep: int = Field(default=2, ge=1)
    """Checkpoints kept on disk."""


class ClusterConfig(Strict):
    """The Ray cluster and what an actor takes of it."""

    address: str | None = None
    """Cluster to join; none joins the one in RAY_ADDRESS or starts a local one."""
    device: Literal["cpu", "gpu"] = "gpu"
    """Where models live."""
    cpus_per_actor: float = Field(default=1.0, gt=0)
    """Logical CPUs an actor reserves; on a CPU machine the roles take turns on the same cores, so a little is right."""
    placement: Literal["PACK", "SPREAD"] = "PACK"
    """How Ray lays the actors over nodes."""


class LimitsConfig(Strict):
    """How long a wait may last, in seconds, none is endless; and how often what was lost is started again."""

    start: float = Field(default=600, gt=0)
    """From asking for resources to every actor ready."""
    generate: float = Field(default=1800, gt=0)
    """Without a new completion from an engine that has some to write; it is then ended and started again."""
    silence: float = Field(default=120, gt=10)
    """Without any answer from an engine; it is then ended and started again."""
    restarts: int = Field(default=2, ge=0)
    """How often each engine, judge or reference is started again, and the whole run from its last checkpoint."""
    judge: float = Field(default=600, gt=0)
    """Without a verdict once a completion was sent to a judge."""
    update: float = Field(default=3600, gt=0)
    """One policy update, reference pass or checkpoint."""
    sync: float = Field(default=600, gt=0)
    """Weights from the policy to every engine."""
    warmup: float = Field(default=7 * 24 * 3600, gt=0)
    """The whole supervised warm-up."""


class RunConfig(Strict):
    """A whole run."""

    name: str = Field(default="run", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    """Name of the run and of its folder below `out`."""
    out: Path = Path("runs")
    """Folder of all runs."""
    seed: int = Field(default=0, ge=0)
    """Seeds data order, sampling and initialisation."""
    rounds: int = Field(default=100, ge=0)
    """Online rounds after the warm-up."""
    prompts_per_round: int = Field(default=64, ge=1)
    """P, prompts of a round."""
    samples_per_prompt: int = Field(default=4, ge=2)
    """G, completions of a prompt."""
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    warmup: WarmupConfig = WarmupConfig()
    rollout: RolloutConfig = RolloutConfig()
    judge: JudgeConfig = JudgeConfig()
    credit: CreditConfig = CreditConfig()
    policy: PolicyConfig = PolicyConfig()
    reference: ReferenceConfig = ReferenceConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    gates: GatesConfig = GatesConfig()
    serve: FollowConfig = FollowConfig()
    sinks: SinksConfig = SinksConfig()
    cluster: ClusterConfig = ClusterConfig()
    limits: LimitsConfig = LimitsConfig()

    @model_validator(mode="after")
    def _possible_together(self) -> Self:
        policy = self.policy
        if self.rollout.top_p < 1 and policy.importance_correction != "off":
            raise ValueError(
                f"rollout.top_p={self.rollout.top_p} biases the importance ratio by the kept mass: "
                f"set rollout.top_p=1, or policy.importance_correction=off (it is {policy.importance_correction})"
            )
        if policy.old_logprobs == "rollout" and policy.importance_correction != "off":
            raise ValueError(
                "policy.old_logprobs=rollout already corrects for the gap: set policy.importance_correction=off "
                f"(it is {policy.importance_correction})"
            )
        if self.rollout.top_p < 1 and policy.old_logprobs == "rollout":
            raise ValueError(f"policy.old_logprobs=rollout needs rollout.top_p=1 (it is {self.rollout.top_p})")
        corrected = policy.old_logprobs == "rollout" or policy.importance_correction != "off"
        if self.rollout.staleness and not corrected and not policy.learns_from_pairs:
            raise ValueError(
                "rollout.staleness=1 needs a ratio to the weights that made the rollouts: "
                "set policy.old_logprobs=rollout, or policy.importance_correction=token"
            )
        if self.rollout.staleness and self.checkpoint.every == 1:
            raise ValueError("rollout.staleness=1 draws no round ahead with checkpoint.every=1: set it to 2 or more")
        overlong = self.credit.overlong
        if overlong is not None and overlong[0] >= self.rollout.max_new_tokens:
            raise ValueError(
                f"credit.overlong={list(overlong)} starts where no completion comes to: "
                f"rollout.max_new_tokens={self.rollout.max_new_tokens}"
            )
        if policy.steps_per_round > self.prompts_per_round:
            raise ValueError(
                f"policy.steps_per_round={policy.steps_per_round} is more than "
                f"prompts_per_round={self.prompts_per_round}"
            )
        for part, judge in self.judge.named().items():
            if judge.backend != "rules" and judge.timeout >= self.limits.judge:
                raise ValueError(
                    f"judge.{part}.timeout={judge.timeout:g} must be below limits.judge={self.limits.judge:g}: "
                    "a slow reply is a failed verdict, a silent judge actor ends the run"
                )
        self._engines_fit_beside_policy()
        self._judges_fit_beside_rollouts()
        if self.serve.follow and not self.gates.bars():
            raise ValueError("serve.follow=true needs gates, for example gates.asr=0.1: nothing else is promoted")
        if self.evaluation.every % self.checkpoint.every:  # so that a resumed run need not evaluate again
            raise ValueError(
                f"evaluation.every={self.evaluation.every} must be a multiple of "
                f"checkpoint.every={self.checkpoint.every}"
            )
        judges = {f"judge.{part}": judge.tensor_parallel for part, judge in self.judge.named().items()}
        for part, tensor_parallel in ({"rollout": self.rollout.tensor_parallel} | judges).items():
            if tensor_parallel > 1 and self.cluster.device == "cpu":
                raise ValueError(f"{part}.tensor_parallel={tensor_parallel} needs cluster.device=gpu")
        return self

    def _engines_fit_beside_policy(self) -> None:
        rollout = self.rollout
        if not rollout.colocate:
            return
        if self.cluster.device == "cpu" or rollout.staleness or rollout.tensor_parallel > 1:
            raise ValueError(
                "rollout.colocate needs cluster.device=gpu, rollout.tensor_parallel=1 and rollout.staleness=0, as "
                "engines sleep while the policy learns"
            )
        references = self.reference.actors if self.policy.needs_reference else 0
        if max(self.policy.ranks, references) > rollout.engines:
            raise ValueError(
                f"rollout.colocate: policy.ranks={self.policy.ranks} and reference.actors={references} share the GPUs "
                f"of rollout.engines={rollout.engines}: at most one beside each engine"
            )

    def _judges_fit_beside_rollouts(self) -> None:
        rollout = self.rollout
        sharing = {part: judge for part, judge in self.judge.named().items() if judge.share_rollout_gpu}
        for part, judge in sharing.items():
            if judge.backend != "vllm" or judge.tensor_parallel > 1 or rollout.tensor_parallel > 1:
                raise ValueError(
                    f"judge.{part}.share_rollout_gpu needs backend=vllm, and tensor_parallel=1 on both sides"
                )
            if judge.actors > rollout.engines:
                raise ValueError(
                    f"judge.{part}.actors={judge.actors} share the GPUs of rollout.engines={rollout.engines}: "
                    "at most one beside each engine"
                )
        total = rollout.memory_share + sum(judge.memory_share for judge in sharing.values())
        if sharing and total > MAX_SHARED_MEMORY:
            raise ValueError(
                f"rollout.memory_share and the memory_share of judges that share its GPU add up to {total:g}, "
                f"more than {MAX_SHARED_MEMORY:g}"
            )

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.out / self.name
