"""Settings of an endpoint; each is documented where it is defined."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from rapo_ray.config.base import Dtype, Strict

Reasoning = Literal["split", "inline"]


class EndpointLimits(Strict):
    """What one caller may ask for."""

    body_bytes: int = Field(default=1 << 20, ge=1024)
    """Bytes of a request's body, counted as they arrive."""
    body_seconds: float = Field(default=20, gt=0)
    """Seconds in which a request's body must have arrived."""
    messages: int = Field(default=64, ge=1)
    """Messages of a chat."""
    max_tokens: int = Field(default=1024, ge=1)
    """Tokens of a completion; a request that names none gets as many as fit below this."""
    n: int = Field(default=4, ge=1, le=8)
    """Completions of one request."""
    per_minute: float | None = Field(default=None, gt=0)
    """Requests a minute of one key, on each ingress replica; none for no limit."""
    burst: int = Field(default=10, ge=1)
    """Requests of one key that may come at once under `per_minute`."""
    in_flight: int = Field(default=64, ge=1)
    """Requests that an ingress replica holds at once, running and waiting; more are told to come again."""
    seconds: float = Field(default=300, gt=0)
    """A request's deadline, queue and stream included."""


class ServeConfig(Strict):
    """An endpoint: which model, for whom, on what."""

    model: Path
    """A run's folder, or a published model's own."""
    api_keys: Path
    """File of bearer keys, one a line as `name:key`; read again whenever it changes."""
    name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    """What callers name the model; none takes the run's name."""
    engines: str | None = None
    """Name of the Serve application in which the engines run; none names it after the weights, as promotion does."""
    reasoning: Reasoning = "split"
    """Where the thinking goes: apart, as `reasoning_content`, or `inline`; a request may choose otherwise."""
    withhold_reasoning: bool = False
    """Give the thinking to nobody; a request for it is refused."""
    replicas: int = Field(default=1, ge=1)
    """Engines that always run."""
    max_replicas: int | None = Field(default=None, ge=1)
    """Engines that may run under load; none for `replicas`."""
    device: Literal["cpu", "gpu"] = "gpu"
    """Where the model lives."""
    cpus_per_replica: float = Field(default=1.0, ge=0)
    """Logical CPUs that an engine reserves."""
    dtype: Dtype = "bfloat16"
    """Weights and arithmetic."""
    tensor_parallel: int = Field(default=1, ge=1)
    """GPUs of one engine."""
    max_model_len: int = Field(default=2048, ge=64)
    """Tokens of prompt and completion together."""
    max_num_seqs: int = Field(default=64, ge=1)
    """Completions that an engine works on at once."""
    memory_share: float = Field(default=0.85, gt=0, lt=1)
    """Share of a GPU's memory that an engine may take."""
    kv_cache_gib: int = Field(default=1, ge=1)
    """Key-value cache of an engine on CPU, in GiB."""
    threads: int = Field(default=0, ge=0)
    """CPU threads of an engine; 0 for all cores, shared by the replicas."""
    limits: EndpointLimits = EndpointLimits()
    """What one caller may ask for."""

    @model_validator(mode="after")
    def _possible_together(self) -> Self:
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise ValueError(f"max_replicas={self.max_replicas} is less than replicas={self.replicas}")
        if self.tensor_parallel > 1 and self.device == "cpu":
            raise ValueError(f"tensor_parallel={self.tensor_parallel} needs device=gpu")
        return self
