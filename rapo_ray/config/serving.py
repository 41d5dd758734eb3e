"""Settings of the OpenAI-compatible endpoint, and of its promotion at the end of a run."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from rapo_ray.config.base import Dtype, Strict, device_dtype

Reasoning = Literal["split", "inline"]
ReasoningField = Literal["both", "reasoning_content", "reasoning"]


class EndpointLimits(Strict):
    """Limits on the requests of one caller."""

    header_seconds: float = Field(default=10, gt=0)
    """Seconds within which a connection must send the headers of a request; it is closed with 408 else."""
    header_connections: int = Field(default=256, ge=1)
    """Connections that may wait at once without having sent the headers of a request; one more closes the oldest."""
    body_bytes: int = Field(default=1 << 20, ge=1024)
    """Largest request body in bytes, counted as they arrive."""
    body_seconds: float = Field(default=20, gt=0)
    """Seconds within which the whole request body must arrive."""
    messages: int = Field(default=64, ge=1)
    """Largest number of messages in a chat request."""
    max_tokens: int = Field(default=1024, ge=1)
    """Largest `max_tokens` of a request; a request without one gets this limit, or less if the context is full."""
    prompts: int = Field(default=32, ge=1)
    """Largest number of prompts in a plain completions request."""
    n: int = Field(default=4, ge=1, le=8)
    """Largest number of completions of one request (`n`)."""
    schema_characters: int = Field(default=16384, ge=2)
    """Largest JSON schema of a request under `structured_output`, in characters."""
    schema_depth: int = Field(default=16, ge=1, le=64)
    """Largest number of lists and objects within each other in such a schema."""
    per_minute: float | None = Field(default=None, gt=0)
    """Requests per minute allowed for one key on each ingress replica; unset, there is no limit."""
    burst: int = Field(default=10, ge=1)
    """Requests that one key may send at once under `per_minute`."""
    in_flight: int = Field(default=64, ge=1)
    """Requests that an ingress replica holds at once, running or queued; further ones get 429 with Retry-After."""
    seconds: float = Field(default=300, gt=0)
    """Deadline of a request in seconds, including its time in the queue and its stream."""


class ServeConfig(Strict):
    """The OpenAI-compatible endpoint: its model, its callers and its resources."""

    model: Path
    """Folder of a run, or of a published model."""
    api_keys: Path
    """File of bearer keys, one per line as `name:key`; it is reread whenever it changes."""
    name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    """Model name that callers use; unset, it is the run's name."""
    engines: str | None = None
    """Name of the Serve application that runs the engines; unset, it is derived from the weights, as in a promotion."""
    reasoning: Reasoning = "split"
    """Default for requests: `split` returns the thinking in a field of its own, `inline` leaves it in the text."""
    reasoning_field: ReasoningField = "both"
    """Name of the field for the thinking: clients read `reasoning_content` or, of late, `reasoning`; `both` has two."""
    withhold_reasoning: bool = False
    """Never return the thinking; a request for it is refused, and an answer is only what follows a closing mark."""
    structured_output: bool = False
    """Take a `response_format` of type `json_object` or `json_schema`: the answer behind the thinking is JSON."""
    replicas: int = Field(default=1, ge=1)
    """Number of engines that always run."""
    max_replicas: int | None = Field(default=None, ge=1)
    """Largest number of engines under load; unset, it equals `replicas`."""
    device: Literal["cpu", "gpu"] = "gpu"
    """Device that the model runs on."""
    cpus_per_replica: float = Field(default=1.0, ge=0)
    """Logical CPUs that each engine reserves."""
    dtype: Dtype = "auto"
    """Data type of the weights; `auto`: bfloat16 on GPUs and on CPUs that compute in it natively, else float32."""
    tensor_parallel: int = Field(default=1, ge=1)
    """GPUs per engine."""
    max_model_len: int = Field(default=2048, ge=64)
    """Context length in tokens, prompt and completion together."""
    max_num_seqs: int = Field(default=64, ge=1)
    """Completions that an engine generates at once."""
    memory_share: float = Field(default=0.85, gt=0, lt=1)
    """Share of a GPU's memory that an engine may use."""
    kv_cache_gib: int = Field(default=1, ge=1)
    """Size of an engine's key-value cache on CPU, in GiB."""
    threads: int = Field(default=0, ge=0)
    """CPU threads per engine; 0 divides all cores among the replicas."""
    limits: EndpointLimits = EndpointLimits()
    """Limits on the requests of one caller."""

    @property
    def reasoning_fields(self) -> tuple[str, ...]:
        """Names of the field for the thinking."""
        return ("reasoning_content", "reasoning") if self.reasoning_field == "both" else (self.reasoning_field,)

    @model_validator(mode="before")
    @classmethod
    def _dtype_fits_the_device(cls, tree: object) -> object:
        return device_dtype(tree, tree.get("device", "gpu")) if isinstance(tree, dict) else tree

    @model_validator(mode="after")
    def _possible_together(self) -> Self:
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise ValueError(f"max_replicas={self.max_replicas} is less than replicas={self.replicas}")
        if self.tensor_parallel > 1 and self.device == "cpu":
            raise ValueError(f"tensor_parallel={self.tensor_parallel} needs device=gpu")
        return self


class FollowConfig(Strict):
    """Promotion of a run's model to a running endpoint."""

    follow: bool = False
    """Promote `best/` at the end of the run to the endpoint on the same cluster; needs at least one gate."""
    state: Path | None = None
    """Folder of the endpoint's state; unset, it is `.serving` below `out`."""
