"""Settings of the judges."""

from pathlib import Path
from typing import Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from rapo_ray.config.base import Dtype, Strict
from rapo_ray.config.request import JsonObject, JudgeRequestConfig
from rapo_ray.config.thinking import ThinkingConfig, check_template_kwargs

GuardFamily = Literal[
    "llama_guard", "wildguard", "qwen3guard", "polyguard", "shieldgemma", "granite_guardian_3", "granite_guardian_3_3",
    "granite_guardian_4", "nemoguard", "nemotron_safety", "harmbench", "gpt_oss_safeguard",
]  # fmt: skip
RAW_GUARDS: Final = ("wildguard", "shieldgemma", "harmbench")  # their template is text, which no endpoint can apply


class JudgeBackendConfig(Strict):
    """One judge: its backend, its model and its limits."""

    backend: Literal["rules", "vllm", "http"] = "rules"
    """`rules` is deterministic code, `vllm` a model on its own engine, `http` any OpenAI-compatible endpoint."""
    actors: int = Field(default=1, ge=1)
    """Number of judge actors; completions are distributed over them by prompt."""
    model: str | None = None
    """Model of the judge: a hub id, a folder or `embedded:...`; for `http` the model name at the endpoint."""
    revision: str | None = None
    """Commit of the judge's hub model; unset, it is the hub's newest."""
    guard: GuardFamily | None = None
    """Family of a guard model, which can judge only the answer (`judge.general`); unset, it is no guard model."""
    reply: Literal["choice", "label", "text"] = "choice"
    """`choice` constrains replies to admissible JSON, `label` to one letter with its probability, `text` not at all."""
    tensor_parallel: int = Field(default=1, ge=1)
    """GPUs per judge actor with backend `vllm`."""
    dtype: Dtype = "auto"
    """Data type of a `vllm` judge; `auto`: bfloat16 on GPUs and on CPUs that compute in it natively, else float32."""
    max_model_len: int = Field(default=4096, ge=256)
    """Context length of a `vllm` judge in tokens; a longer judge prompt is a failed verdict."""
    max_num_seqs: int = Field(default=128, ge=1)
    """Requests that a `vllm` judge processes at once, at most; fewer where its KV cache is too small."""
    max_reply_tokens: int = Field(default=512, ge=1)
    """Token limit of a `text` or guard reply; a reply that reaches it is a failed verdict."""
    max_thinking_tokens: int = Field(default=0, ge=0)
    """Tokens that the judge may think before its reply; with 0, `choice` and `label` leave no room for thinking."""
    thinking: ThinkingConfig = ThinkingConfig()
    """Chat format of a `vllm` judge's model, as far as its chat template does not show it."""
    template_kwargs: JsonObject = Field(default={})
    """Arguments of the judge's chat template, such as `enable_thinking: false`; `http` sends `chat_template_kwargs`."""
    timeout: float = Field(default=120, gt=0)
    """Seconds that a judge may take for one reply, retries included; afterwards the verdict has failed."""
    memory_share: float = Field(default=0.85, gt=0, lt=1)
    """Share of a GPU's memory that a `vllm` judge may use."""
    share_rollout_gpu: bool = False
    """Place actor i of a `vllm` judge on the cards of rollout engine i; memory shares may add up to 0.95."""
    kv_cache_gib: int = Field(default=1, ge=1)
    """Size of a `vllm` judge's key-value cache on CPU, in GiB."""
    url: str | None = None
    """Base URL of an `http` judge, for example `https://host/v1`."""
    token_file: Path | None = None
    """File with the bearer token of an `http` judge, readable on the judge's node; unset, no token is sent."""
    allow_private: bool = False
    """Allow an `http` judge on loopback or in a private network, where plain http is allowed too."""
    concurrency: int = Field(default=32, ge=1)
    """Calls that each `http` judge actor has in flight at once."""
    per_minute: float | None = Field(default=None, gt=0)
    """Calls per minute of all actors of this `http` judge together; unset, there is no limit."""
    retries: int = Field(default=4, ge=0)
    """Retries with back-off of a call that failed for a transient reason (408, 429, 5xx, connection)."""
    request: JudgeRequestConfig = JudgeRequestConfig()
    """Fields of each request to an `http` judge."""

    @field_validator("template_kwargs")
    @classmethod
    def _arguments_of_a_template(cls, value: JsonObject) -> JsonObject:
        check_template_kwargs(value)
        return value

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.backend != "rules" and not self.model:
            raise ValueError(f"backend={self.backend} needs a model")
        if self.backend == "http" and not self.url:
            raise ValueError("backend=http needs a url")
        written = self.max_thinking_tokens + (self.max_reply_tokens if self.reply == "text" or self.guard else 0)
        if self.backend == "vllm" and written >= self.max_model_len:
            raise ValueError(
                f"max_thinking_tokens={self.max_thinking_tokens} and max_reply_tokens={self.max_reply_tokens} leave no "
                f"room for a question in max_model_len={self.max_model_len}: raise that"
            )
        if self.guard and self.backend == "rules":
            raise ValueError(f"guard={self.guard} needs backend=vllm or backend=http")
        if self.guard in RAW_GUARDS and self.backend == "http":
            raise ValueError(f"guard={self.guard} needs backend=vllm: an endpoint cannot apply its template as a chat")
        return self


class CanaryConfig(Strict):
    """Canaries: completions with known verdicts that the live judge scores during the run."""

    every: int = Field(default=0, ge=0)
    """Rounds between two measurements of the judge; 0 for no measurement."""
    min_true_positive_rate: float = Field(default=0.6, ge=0, le=1)
    """Smallest share of good canaries judged good; below it the run stops."""
    max_false_positive_rate: float = Field(default=0.3, ge=0, le=1)
    """Largest share of bad canaries judged good; above it the run stops."""
    max_flip_rate: float = Field(default=0.2, ge=0, le=1)
    """Largest share of forged twins judged differently from their originals; above it the run stops."""


class JudgeConfig(Strict):
    """The judges, and the share of failed verdicts that a run tolerates."""

    risk: JudgeBackendConfig = JudgeBackendConfig()
    """Judge of the trace, for the level, the case and the risk-aware reward R."""
    general: JudgeBackendConfig | None = None
    """Judge of the answer, for the general reward G; unset, the risk judge gives both rewards."""
    second: JudgeBackendConfig | None = None
    """Second judge of some samples, logged with Cohen's kappa and not part of the reward; unset, there is none."""
    second_share: float = Field(default=0.1, gt=0, le=1)
    """Share of the samples that the second judge scores."""
    mode: Literal["split", "paper"] = "split"
    """`split` asks for levels once per prompt and counts sentences in code, `paper` asks for level and case at once."""
    consistency: bool | None = None
    """Give a trace that contradicts itself or its answer the lowest R; unset, on except with `mode=paper`."""
    cache: bool = True
    """Cache model judgements below `out`, so that resumed runs and ablations repeat no question."""
    canaries: CanaryConfig = CanaryConfig()
    """Completions with known verdicts that measure the judge during the run."""
    failure_budget: float = Field(default=0.2, ge=0, le=1)
    """Largest share of a round's verdicts that may fail; above it the run stops instead of learning from noise."""

    @model_validator(mode="after")
    def _guards_judge_answers(self) -> Self:
        for part in ("risk", "second"):
            judge = getattr(self, part)
            if judge is not None and judge.guard is not None:
                raise ValueError(
                    f"judge.{part}.guard={judge.guard}: a guard judges only answers; set it as judge.general"
                )
        return self

    @model_validator(mode="after")
    def _paper_knows_no_consistency(self) -> Self:
        if self.mode == "paper" and self.consistency:
            raise ValueError("judge.consistency=true needs judge.mode=split: the paper's rubric has no such case")
        return self

    @property
    def checks_consistency(self) -> bool:
        """True where a contradiction costs a trace its reward."""
        return self.mode != "paper" if self.consistency is None else self.consistency

    def named(self) -> dict[str, JudgeBackendConfig]:
        """The configured judges, by part."""
        parts = {"risk": self.risk, "general": self.general, "second": self.second}
        return {part: judge for part, judge in parts.items() if judge is not None}
