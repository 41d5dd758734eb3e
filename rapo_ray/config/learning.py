"""Settings of learning: credit, the policy update, and the frozen reference."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from rapo_ray.config.base import Dtype, Strict

Beta = Annotated[float, Field(ge=0, lt=1)]
RewardParts = Literal["both", "risk", "general"]

GATE = 0.75  # reward between the best unsafe and the worst safe outcome of the gated scheme


class CreditConfig(Strict):
    """The conversion of verdicts into rewards and advantages."""

    scheme: Literal["grpo", "dr_grpo", "rloo", "gdpo", "gated"] = "grpo"
    """Credit scheme, which turns a group's verdicts into advantages.

    `grpo` (the paper) centres R + G and divides by the group's deviation; `dr_grpo` only centres; `rloo` subtracts the
    mean of the other samples; `gdpo` standardises R and G separately and adds them; `gated` is `grpo` on a reward that
    ranks every unsafe outcome below every safe one, then by reasoning, then by helpfulness.
    """
    parts: RewardParts = "both"
    """Parts of the reward that count: R + G, R alone (`risk`) or G alone (`general`), to learn what each is worth.

    Both are judged and logged all the same, and a completion whose verdict lacks either has no reward.
    """
    filter: Literal["reward", "label"] = "reward"
    """Value that must differ within a group, or it has zero variance and is not trained on: reward, or safety label."""
    resample: int = Field(default=0, ge=0)
    """Largest number of times that a zero-variance group is resampled; 0 skips it at once."""
    min_margin: float = Field(default=0.0, ge=0)
    """Reward by which a group's best sample must exceed its worst to form a preference pair (DPO, IPO, export)."""
    truncated: Literal["lowest", "mask"] = "lowest"
    """`lowest` gives a truncated completion the lowest rewards; `mask` leaves it out of mean, deviation and loss."""
    overlong: tuple[int, int] | None = None
    """Completion lengths in tokens between which a penalty rises from 0 to its maximum (DAPO); unset, there is none."""
    overlong_penalty: float = Field(default=0.5, gt=0)
    """Largest length penalty, subtracted from the reward; `gdpo` standardises it as a separate part."""
    over_refusal_bound: float | None = Field(default=None, ge=0, lt=1)
    """Largest share of the benign prompts' answers that may fail to help, twins of attacks included.

    While a round is above it, a multiplier rises that weights G of benign prompts in the advantages, and falls while
    rounds are below; unset, there is none.
    """

    @model_validator(mode="after")
    def _gate_has_both_parts(self) -> Self:
        if self.scheme == "gated" and self.parts != "both":
            raise ValueError(
                f"credit.scheme=gated ranks outcomes by R and G together: set credit.parts=both (it is {self.parts}) "
                "or another credit.scheme"
            )
        return self

    @model_validator(mode="after")
    def _bound_has_its_part(self) -> Self:
        if self.over_refusal_bound is not None and self.parts == "risk":
            raise ValueError(
                f"credit.over_refusal_bound={self.over_refusal_bound:g} weights G, which credit.parts=risk leaves out: "
                "set credit.parts=both"
            )
        return self

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
    """The policy, trained with DeepSpeed, and its update."""

    ranks: int = Field(default=1, ge=1)
    """Number of data-parallel ranks, one GPU each."""
    zero_stage: Literal[0, 1, 2, 3] = 2
    """DeepSpeed ZeRO stage."""
    dtype: Dtype = "auto"
    """Data type of the forward and backward pass, `auto` as for `rollout`; master weights are always float32."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass, which saves memory and costs time."""
    lora_rank: int = Field(default=0, ge=0)
    """Rank of LoRA adapters on every linear layer except the head; 0 trains all weights.

    The engines and the published model get the weights with the adapters merged.
    """
    lora_alpha: int = Field(default=32, ge=1)
    """Numerator of the adapters' scale; their output is multiplied by `lora_alpha / lora_rank`."""
    learning_rate: float = Field(default=1e-6, gt=0)
    """Peak learning rate of the rounds."""
    schedule: Literal["constant_with_warmup", "linear", "cosine"] = "constant_with_warmup"
    """Learning-rate schedule over all optimizer steps, by its name in transformers."""
    warmup_steps: int = Field(default=0, ge=0)
    """Optimizer steps over which the learning rate warms up linearly."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Weight decay of AdamW."""
    adam_betas: tuple[Beta, Beta] = (0.9, 0.95)
    """Betas of AdamW."""
    grad_clip: float = Field(default=1.0, gt=0)
    """Largest gradient norm; larger gradients are scaled down to it."""
    steps_per_round: int = Field(default=1, ge=1)
    """Optimizer steps per round; the round's sequences are distributed over them."""
    micro_batch_tokens: int = Field(default=16384, ge=16)
    """Largest number of padded tokens in a micro-batch; a longer row forms its own."""
    row_tokens: int = Field(default=512, ge=0)
    """Length in tokens of the rows that sequences are packed into, a shared prompt once; 0 gives each its own row."""
    objective: Literal["clip", "dpo", "ipo"] = "clip"
    """Loss of the update: the clipped policy-gradient loss, or DPO or IPO on the best and worst sample of a group."""
    pair_beta: float = Field(default=0.1, gt=0)
    """Beta of DPO and IPO, the strength of the pull to the reference."""
    clip_low: float = Field(default=0.2, gt=0)
    """Lower clip range of the policy ratio, which is clipped at 1 minus this."""
    clip_high: float = Field(default=0.2, gt=0)
    """Upper clip range of the policy ratio, which is clipped at 1 plus this."""
    loss_mean: Literal["token", "sequence"] = "sequence"
    """Average of the loss over the step's tokens, or over its sequences' token means (GRPO)."""
    old_logprobs: Literal["recompute", "rollout"] = "recompute"
    """Denominator of the ratio: log-probs recomputed by the policy, or those of the engines (one forward pass less)."""
    kl_coef: float = Field(default=0.01, ge=0)
    """Weight of the KL to the reference in the clipped loss; with 0 no reference actor is started for it."""
    kl_estimator: Literal["k1", "k2", "k3"] = "k3"
    """Estimator of the KL, named as in Schulman's note."""
    importance_correction: Literal["off", "token", "sequence"] = "token"
    """Importance correction for the gap between engines and policy, per `token` (clipped) or `sequence` (dropped)."""
    importance_bounds: tuple[float, float] = (0.5, 2.0)
    """Bounds of the importance weights; beyond them weights are clipped (`token`) or sequences dropped (`sequence`)."""
    offload: bool = False
    """Keep the optimizer states in host memory instead of GPU memory."""

    @property
    def learns_from_pairs(self) -> bool:
        """True where the training rows are alternating chosen and rejected completions."""
        return self.objective != "clip"

    @property
    def needs_reference(self) -> bool:
        """True where the update needs the reference's log-probs."""
        return self.learns_from_pairs or self.kl_coef > 0

    @model_validator(mode="after")
    def _offload_needs_zero(self) -> Self:
        if self.offload and self.zero_stage == 0:  # DeepSpeed would ignore it without a word
            raise ValueError("policy.offload=true needs policy.zero_stage=1 or more (it is 0)")
        return self

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
    """The frozen reference model, for the KL and for preference losses."""

    actors: int = Field(default=1, ge=1)
    """Number of reference actors; sequences are distributed over them."""
    micro_batch_tokens: int = Field(default=32768, ge=16)
    """Largest number of padded tokens in one forward pass."""
