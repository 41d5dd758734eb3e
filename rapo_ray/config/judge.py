"""Settings of the judges."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from rapo_ray.config.base import Dtype, Strict


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
    share_rollout_gpu: bool = False
    """Put judge actor i of a vllm judge on the GPU of rollout engine i; their memory shares must leave room."""
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
