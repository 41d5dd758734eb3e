"""The admissible fields of a request: an allow-list, so that no unforeseen field of vLLM reaches an engine."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from rapo_ray.config.serving import EndpointLimits, Reasoning
from rapo_ray.models.chat import ChatFormat, Conversation

INT64 = 2**63
Stop = Annotated[str, Field(min_length=1, max_length=128)]


class Request(BaseModel):
    """Base class of the parts of a request; unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ChatMessage(Request):
    """One turn of a chat, text only."""

    role: Literal["system", "user", "assistant"]
    content: str
    name: str | None = Field(default=None, max_length=64)
    reasoning_content: str | None = None
    """Thinking of an earlier answer, which clients send back; it is not passed on."""
    reasoning: str | None = None
    """The same by its other name."""
    type: Literal["text"] | None = None
    """Content type that some clients add to every message; it is not passed on."""


class StreamOptions(Request):
    """Contents of a stream besides the text."""

    include_usage: bool = False


class Sampling(Request):
    """Fields that chat and plain completions share, with the meaning of OpenAI's API."""

    model: str | None = Field(default=None, max_length=256)
    max_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    n: int = Field(default=1, ge=1)
    seed: int | None = Field(default=None, ge=-INT64, lt=INT64)
    stop: Stop | list[Stop] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    user: str | None = Field(default=None, max_length=256)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if isinstance(self.stop, list) and len(self.stop) > 4:
            raise ValueError("stop takes at most four strings")
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options needs stream=true")
        if self.temperature == 0 and self.n > 1:
            raise ValueError("n above 1 needs a temperature above 0")
        return self

    @property
    def token_limit(self) -> int | None:
        """Largest number of tokens requested."""
        return self.max_tokens

    @property
    def wants_usage(self) -> bool:
        """True where the stream should end with its usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    def engine_fields(self, ours: set[str], chat: ChatFormat) -> dict[str, Any]:
        """The fields that both kinds pass on, and those that the format needs; a stream reports its usage to us."""
        fields = self.model_dump(exclude_none=True, exclude={"user", "model", "stream_options", *ours})
        fields["stop_token_ids"] = list(chat.stops)
        if chat.mark_ids:
            fields["skip_special_tokens"] = False  # they would take the marks with them
        return {**fields, "stream_options": {"include_usage": True}} if self.stream else fields

    def over(self, limits: EndpointLimits) -> str | None:
        """Description of the first limit that the request exceeds, or None."""
        if self.n > limits.n:
            return f"n={self.n} is more than {limits.n}"
        if (self.token_limit or 0) > limits.max_tokens:
            return f"max_tokens={self.token_limit} is more than {limits.max_tokens}"
        return None


class ChatRequest(Sampling):
    """POST /v1/chat/completions."""

    messages: list[ChatMessage] = Field(min_length=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    logprobs: bool = False
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    reasoning: Reasoning | None = None
    """`split` returns thinking in a field of its own, `inline` leaves it in the text; the endpoint has a default."""

    @model_validator(mode="after")
    def _counts_go_with_logprobs(self) -> Self:
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs=true")
        return self

    @property
    def token_limit(self) -> int | None:
        """Largest number of tokens requested, by either name."""
        return self.max_completion_tokens or self.max_tokens

    def over(self, limits: EndpointLimits) -> str | None:
        """Description of the first limit that the request exceeds, or None."""
        if len(self.messages) > limits.messages:
            return f"{len(self.messages)} messages are more than {limits.messages}"
        return super().over(limits)

    def turns(self, system_prompt: str | None) -> Conversation:
        """The turns without what is not passed on; the model's own system prompt where the caller sends none."""
        ours = {"type", "reasoning_content", "reasoning"}
        turns = [message.model_dump(exclude_none=True, exclude=ours) for message in self.messages]
        if system_prompt is not None and self.messages[0].role != "system":
            turns.insert(0, {"role": "system", "content": system_prompt})
        return turns

    def for_engine(self, model: str, turns: Conversation, chat: ChatFormat, split: bool) -> dict[str, Any]:
        """The fields for the engine.

        In `split` mode stop strings apply to the answer alone, so they stay with us, and the engine has to stream.
        """
        ours = {"messages", "max_tokens", "max_completion_tokens", "reasoning"}
        fields = self.engine_fields(ours | {"stop"} if split else ours, chat)
        if split and self.stops:
            options = {"include_usage": True, "continuous_usage_stats": True}  # it may be ended before its last event
            fields |= {"stream": True, "stream_options": options}
        if self.token_limit is not None:
            fields["max_completion_tokens"] = self.token_limit
        if chat.on:
            fields["chat_template_kwargs"] = dict(chat.on)
        return {**fields, "model": model, "messages": turns}


class CompletionRequest(Sampling):
    """POST /v1/completions."""

    prompt: Annotated[str, Field(min_length=1)]
    logprobs: int | None = Field(default=None, ge=0, le=20)
    echo: Literal[False] = False

    def for_engine(self, model: str, chat: ChatFormat) -> dict[str, Any]:
        """The fields for the engine."""
        return {**self.engine_fields({"echo"}, chat), "model": model}
