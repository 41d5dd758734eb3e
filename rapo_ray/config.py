"""The run's configuration: one model per role, each field documented where it is defined.

Order of precedence: defaults < recipe file < dotted overrides on the command line. Unknown keys fail.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from rapo_ray.data.sources import SourceConfig

Dtype = Literal["float32", "bfloat16"]
Beta = Annotated[float, Field(ge=0, lt=1)]


class Strict(BaseModel):
    """Base of every section: unknown keys fail, and a loaded section does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_bool_for_a_number(cls, value: object, info: ValidationInfo) -> object:
        parts = value if isinstance(value, list | tuple) else [value]
        wants_bool = cls.model_fields[str(info.field_name)].annotation is bool
        if not wants_bool and any(isinstance(part, bool) for part in parts):  # pydantic would take `yes` as 1
            raise ValueError("this setting takes no true or false (nor YAML's bare yes, no, on, off)")
        return value


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
    memory_share: float = Field(default=0.85, gt=0, lt=1)
    """Share of a GPU's memory that an engine may take."""
    kv_cache_gib: int = Field(default=1, ge=1)
    """Key-value cache of an engine on CPU, in GiB."""
    enforce_eager: bool = True
    """Skip graph capture and compilation; compilation pays on GPU and for long runs."""


class JudgeBackendConfig(Strict):
    """One judge."""

    backend: Literal["rules", "vllm", "http"] = "rules"
    """`rules` is deterministic code; `vllm` a model on an engine of its own; `http` any OpenAI-compatible endpoint."""
    actors: int = Field(default=1, ge=1)
    """Number of judge actors; completions are dealt over them by prompt."""
    model: str | None = None
    """Model of the judge: a hub id, a folder or `embedded:...`; for http the name its endpoint knows."""
    revision: str | None = None
    """Commit of the judge's hub model."""
    guard: Literal["llama_guard", "wildguard", "qwen3guard"] | None = None
    """Reply format of a guard model, which can judge the answer (`general`) only."""
    reply: Literal["choice", "label", "text"] = "choice"
    """`choice` constrains replies to admissible JSON, `label` to one letter with its probability, `text` to nothing."""
    tensor_parallel: int = Field(default=1, ge=1)
    """GPUs of one vllm judge."""
    dtype: Dtype = "bfloat16"
    """Weights and arithmetic of a vllm judge."""
    max_model_len: int = Field(default=4096, ge=256)
    """Context of a vllm judge in tokens; a longer judge prompt is a failed verdict."""
    max_num_seqs: int = Field(default=128, ge=1)
    """Verdicts a vllm judge works on at once."""
    max_reply_tokens: int = Field(default=512, ge=1)
    """Token limit of a `text` or guard reply; what reaches it is a failed verdict."""
    timeout: float = Field(default=120, gt=0)
    """Seconds a judge may take for one reply, retries included; after that the verdict has failed."""
    memory_share: float = Field(default=0.85, gt=0, lt=1)
    """Share of a GPU's memory that a vllm judge may take."""
    kv_cache_gib: int = Field(default=1, ge=1)
    """Key-value cache of a vllm judge on CPU, in GiB."""
    url: str | None = None
    """Base address of an http judge, as in `https://host/v1`."""
    token_file: Path | None = None
    """File with the bearer token of an http judge, readable on the judge's node."""
    allow_private: bool = False
    """Let an http judge lie on loopback or inside a private network, where plain http is allowed too."""
    concurrency: int = Field(default=32, ge=1)
    """Calls an http judge actor has in flight."""
    per_minute: float | None = Field(default=None, gt=0)
    """Calls a minute of all actors of this http judge together; none for no limit."""
    retries: int = Field(default=4, ge=0)
    """Further tries of a call that failed for a passing reason (408, 429, 5xx, connection), with back-off."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.backend != "rules" and not self.model:
            raise ValueError(f"backend={self.backend} needs a model")
        if self.backend == "http" and not self.url:
            raise ValueError("backend=http needs a url")
        if self.guard and self.backend == "rules":
            raise ValueError(f"guard={self.guard} needs backend=vllm or backend=http")
        if self.guard == "wildguard" and self.backend == "http":
            raise ValueError("guard=wildguard needs backend=vllm: its template is no chat that an endpoint could apply")
        return self


class CanaryConfig(Strict):
    """Completions of known verdict that go through the live judge."""

    every: int = Field(default=0, ge=0)
    """Rounds between two measurements of the judge; 0 measures never."""
    min_true_positive_rate: float = Field(default=0.6, ge=0, le=1)
    """Least share of good canaries judged good; below it the run stops."""
    max_false_positive_rate: float = Field(default=0.3, ge=0, le=1)
    """Largest share of bad canaries judged good; above it the run stops."""
    max_flip_rate: float = Field(default=0.2, ge=0, le=1)
    """Largest share of forged twins judged otherwise than their originals; above it the run stops."""


class JudgeConfig(Strict):
    """Who judges, and how much failure a run bears."""

    risk: JudgeBackendConfig = JudgeBackendConfig()
    """Judges the trace: level, case and the risk-aware reward R."""
    general: JudgeBackendConfig | None = None
    """Judges the answer, the general reward G; none lets the risk judge answer both."""
    second: JudgeBackendConfig | None = None
    """A second opinion on some samples: logged with Cohen's kappa, no part of the reward."""
    second_share: float = Field(default=0.1, gt=0, le=1)
    """Share of the samples that the second judge sees."""
    mode: Literal["split", "paper"] = "split"
    """`split`: level once a prompt, sentences counted in code. `paper`: one call for level and case, every sample."""
    cache: bool = True
    """Keep model judgements below the folder of runs: resumed runs and ablations ask nothing twice."""
    canaries: CanaryConfig = CanaryConfig()
    """Completions of known verdict that measure the judge while it trains a policy."""
    failure_budget: float = Field(default=0.2, ge=0, le=1)
    """Share of a round's verdicts that may fail; above it the run stops instead of learning noise."""

    @model_validator(mode="after")
    def _guards_judge_answers(self) -> Self:
        for part in ("risk", "second"):
            judge = getattr(self, part)
            if judge is not None and judge.guard is not None:
                raise ValueError(
                    f"judge.{part}.guard={judge.guard}: a guard judges answers only, give it as judge.general"
                )
        return self

    def named(self) -> dict[str, JudgeBackendConfig]:
        """The judges there are, by part."""
        parts = {"risk": self.risk, "general": self.general, "second": self.second}
        return {part: judge for part, judge in parts.items() if judge is not None}


class CreditConfig(Strict):
    """How verdicts become advantages."""

    scheme: Literal["grpo", "dr_grpo", "rloo", "gdpo", "gated"] = "grpo"
    """How a group's verdicts become advantages.

    `grpo` (the paper): R + G, centred, over the group's deviation. `dr_grpo`: centred only. `rloo`: against the mean of
    the others. `gdpo`: R and G standardised apart, then added. `gated`: as grpo, but every unsafe outcome ranks below
    every safe one, then reasoning decides, then helpfulness.
    """
    filter: Literal["reward", "label"] = "reward"
    """Which groups teach nothing: those whose reward does not vary, or those whose raw safety label (G) does not."""
    resample: int = Field(default=0, ge=0)
    """How often completions of a group that teaches nothing are drawn again; what is left is skipped."""
    min_margin: float = Field(default=0.0, ge=0)
    """Reward by which the best of a group must exceed its worst to make a preference pair (DPO, IPO, export)."""


class PolicyConfig(Strict):
    """The DeepSpeed policy and its update."""

    ranks: int = Field(default=1, ge=1)
    """Data-parallel ranks, one GPU each."""
    zero_stage: Literal[0, 1, 2, 3] = 2
    """DeepSpeed ZeRO stage."""
    dtype: Dtype = "bfloat16"
    """Forward and backward arithmetic; master weights are always float32."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass."""
    learning_rate: float = Field(default=1e-6, gt=0)
    """Learning rate of the rounds."""
    schedule: Literal["constant_with_warmup", "linear", "cosine"] = "constant_with_warmup"
    """Learning-rate schedule over all optimizer steps, by its transformers name."""
    warmup_steps: int = Field(default=0, ge=0)
    """Optimizer steps of linear warm-up."""
    weight_decay: float = Field(default=0.0, ge=0)
    """AdamW weight decay."""
    adam_betas: tuple[Beta, Beta] = (0.9, 0.95)
    """AdamW betas."""
    grad_clip: float = Field(default=1.0, gt=0)
    """Largest gradient norm."""
    steps_per_round: int = Field(default=1, ge=1)
    """Optimizer steps a round; the round's sequences are dealt over them."""
    micro_batch_tokens: int = Field(default=16384, ge=16)
    """Padded tokens of a micro-batch; longer sequences go alone."""
    objective: Literal["clip", "dpo", "ipo"] = "clip"
    """What the update minimises: the clipped loss on advantages, or DPO or IPO on the best and worst of a group."""
    pair_beta: float = Field(default=0.1, gt=0)
    """Strength of the reference in DPO and IPO."""
    clip_low: float = Field(default=0.2, gt=0)
    """Lower clip of the policy ratio."""
    clip_high: float = Field(default=0.2, gt=0)
    """Upper clip of the policy ratio."""
    loss_mean: Literal["token", "sequence"] = "sequence"
    """Average over the step's tokens, or over its sequences' token means (GRPO)."""
    old_logprobs: Literal["recompute", "rollout"] = "recompute"
    """The ratio's denominator: recomputed by the policy, or the engines' own log-probs (a forward pass less)."""
    kl_coef: float = Field(default=0.01, ge=0)
    """Weight of the KL to the reference in the clipped loss; 0 starts no reference actor there."""
    kl_estimator: Literal["k1", "k2", "k3"] = "k3"
    """Schulman's estimator of the KL."""
    importance_correction: Literal["off", "token", "sequence"] = "token"
    """Correct for the gap between engines and policy: per token (weights clipped) or per sequence (dropped)."""
    importance_bounds: tuple[float, float] = (0.5, 2.0)
    """Weights outside are clipped (token) or their sequences dropped (sequence)."""
    offload: bool = False
    """Keep optimizer states in host memory."""

    @property
    def learns_from_pairs(self) -> bool:
        """True where training rows are chosen and rejected in turn."""
        return self.objective != "clip"

    @property
    def needs_reference(self) -> bool:
        """True where the update wants the reference's log-probs."""
        return self.learns_from_pairs or self.kl_coef > 0

    @field_validator("importance_correction", mode="before")
    @classmethod
    def _off_is_a_word(cls, value: object) -> object:
        return "off" if value is False else value  # YAML reads a bare `off` as false

    @field_validator("importance_bounds")
    @classmethod
    def _bounds_in_order(cls, bounds: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= bounds[0] < bounds[1]:
            raise ValueError("the low bound must be at least 0 and below the high one")
        return bounds


class ReferenceConfig(Strict):
    """The frozen reference model of the KL."""

    actors: int = Field(default=1, ge=1)
    """Number of reference actors; sequences are dealt over them."""
    micro_batch_tokens: int = Field(default=32768, ge=16)
    """Padded tokens of a forward pass."""


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
    """How long a wait may last, in seconds; none is endless."""

    start: float = Field(default=600, gt=0)
    """From asking for resources to every actor ready."""
    generate: float = Field(default=1800, gt=0)
    """Without a new completion from any engine."""
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
        judges = {f"judge.{part}": judge.tensor_parallel for part, judge in self.judge.named().items()}
        for part, tensor_parallel in ({"rollout": self.rollout.tensor_parallel} | judges).items():
            if tensor_parallel > 1 and self.cluster.device == "cpu":
                raise ValueError(f"{part}.tensor_parallel={tensor_parallel} needs cluster.device=gpu")
        return self

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.out / self.name
