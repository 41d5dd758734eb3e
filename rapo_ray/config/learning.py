"""How a run learns: credit, the policy's update, and the frozen reference."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from rapo_ray.config.base import Dtype, Strict

Beta = Annotated[float, Field(ge=0, lt=1)]

GATE = 0.75  # what lies between the best unsafe and the worst safe outcome of the gated scheme


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
    truncated: Literal["lowest", "mask"] = "lowest"
    """A completion cut at the token limit has the lowest rewards, or is out of its group's mean, deviation and loss."""
    overlong: tuple[int, int] | None = None
    """From and to which completion length, in tokens, a penalty rises (DAPO's soft punishment); none for no penalty."""
    overlong_penalty: float = Field(default=0.5, gt=0)
    """The whole of that penalty, taken off the reward; in gdpo a part of its own."""

    @model_validator(mode="after")
    def _lengths_in_order(self) -> Self:
        if self.overlong is not None and not 0 <= self.overlong[0] < self.overlong[1]:
            raise ValueError(f"credit.overlong={list(self.overlong)} must be two lengths, the smaller first")
        if self.overlong is not None and self.scheme == "gated" and self.overlong_penalty >= GATE:
            raise ValueError(
                f"credit.overlong_penalty={self.overlong_penalty:g} must be below {GATE:g} with credit.scheme=gated: "
                "more would rank a long safe completion below a short unsafe one"
            )
        return self


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
    lora_rank: int = Field(default=0, ge=0)
    """Train LoRA adapters of this rank in the rounds, on every linear layer but the head; 0 trains all weights.

    The engines get the weights with the adapters merged, and so does the published model.
    """
    lora_alpha: int = Field(default=32, ge=1)
    """The adapters' output is scaled by this over `lora_rank`."""
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
    """Padded tokens of a micro-batch; longer rows go alone."""
    row_tokens: int = Field(default=512, ge=0)
    """Sequences are laid in rows of up to this many tokens, a shared prompt once; 0 gives each a row of its own."""
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
