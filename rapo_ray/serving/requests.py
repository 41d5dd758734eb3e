"""The admissible fields of a request: an allow-list, so that no unforeseen field of vLLM reaches an engine."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from rapo_ray.config.serving import EndpointLimits, Reasoning
from rapo_ray.models.chat import ChatFormat, Conversation
from rapo_ray.serving.fields.base import Request
from rapo_ray.serving.fields.defaults import ChatDefaults, EngineDefaults
from rapo_ray.serving.fields.neutral import NEUTRAL, only
from rapo_ray.serving.fields.structured import ResponseFormat, structural_tag
from rapo_ray.serving.fields.text import Content, Prompts, Stops, Text
from rapo_ray.serving.reasoning import Beginning

INT64 = 2**63
Label = Annotated[Text, Field(max_length=512)]


class ChatMessage(Request):
    """One turn of a chat, text only."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Content | None = None
    name: Annotated[Text, Field(max_length=64)] | None = None
    refusal: Text | None = None
    """Text of an earlier answer that has no content."""
    reasoning_content: Any = NEUTRAL
    """Thinking of an earlier answer, which clients send back; it is not passed on."""
    reasoning: Any = NEUTRAL
    """The same by its other name."""
    reasoning_details: Any = NEUTRAL
    """The same as OpenRouter has it."""
    provider_specific_fields: Any = NEUTRAL
    """The same as litellm has it."""
    thinking_blocks: Any = NEUTRAL
    """The same as litellm has it for another provider."""
    parsed: Any = NEUTRAL
    """The content once more, as the openai SDK parsed it."""
    id: Any = NEUTRAL
    cache_control: Any = NEUTRAL
    """Request to keep the prompt's beginning, of clients of several providers."""
    type: Annotated[Any, only("text", "message")] = NEUTRAL
    """Type that some clients add to every message."""
    tool_calls: Annotated[Any, only([])] = NEUTRAL
    annotations: Annotated[Any, only([])] = NEUTRAL
    images: Annotated[Any, only([])] = NEUTRAL

    @model_validator(mode="after")
    def _has_text(self) -> Self:
        if self.role != "assistant" and self.content is None:
            raise ValueError("content: a text is required")
        if self.role != "assistant" and self.refusal is not None:
            raise ValueError("refusal: only an assistant's message has one")
        return self

    def turn(self) -> dict[str, Any]:
        """The turn for the template: text, and a role that templates know."""
        role = "system" if self.role == "developer" else self.role
        named = {} if self.name is None else {"name": self.name}
        return {"role": role, "content": self.content or self.refusal or "", **named}


class StreamOptions(Request):
    """Contents of a stream besides the text."""

    include_usage: bool = False
    include_obfuscation: Annotated[Any, only(False)] = NEUTRAL


class Sampling(EngineDefaults):
    """Fields that chat and plain completions share, with the meaning of OpenAI's API."""

    model: Annotated[Text, Field(max_length=256)] | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    n: int = Field(default=1, ge=1)
    seed: int | None = Field(default=None, ge=-INT64, lt=INT64)
    stop: Stops | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    user: Label | None = Field(default=None, exclude=True)
    logit_bias: Annotated[Any, only({})] = NEUTRAL

    @model_validator(mode="after")
    def _consistent(self) -> Self:
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
        return tuple(self.stop or ())

    def engine_fields(self, ours: set[str], chat: ChatFormat) -> dict[str, Any]:
        """The fields that both kinds pass on, and those that the format needs; a stream reports its usage to us."""
        fields = self.model_dump(exclude_none=True, exclude={"model", "stream_options", *ours})
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


class ChatRequest(Sampling, ChatDefaults):
    """POST /v1/chat/completions."""

    messages: list[ChatMessage] = Field(min_length=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    logprobs: bool = False
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    reasoning: Reasoning | None = None
    """`split` returns thinking in a field of its own, `inline` leaves it in the text; the endpoint has a default."""
    response_format: ResponseFormat | None = Field(default=None, exclude=True)
    tools: Annotated[Any, only([])] = NEUTRAL
    tool_choice: Annotated[Any, only("none", "auto")] = NEUTRAL
    parallel_tool_calls: Annotated[Any, only(True, False)] = NEUTRAL
    functions: Annotated[Any, only([])] = NEUTRAL
    function_call: Annotated[Any, only("none", "auto")] = NEUTRAL
    modalities: Annotated[Any, only(["text"])] = NEUTRAL
    reasoning_effort: Annotated[Any, only("medium")] = NEUTRAL
    verbosity: Annotated[Any, only("medium")] = NEUTRAL
    service_tier: Annotated[Any, only("auto", "default")] = NEUTRAL
    store: Annotated[Any, only(False)] = NEUTRAL
    metadata: dict[Label, Label] | None = NEUTRAL
    safety_identifier: Label | None = NEUTRAL
    prompt_cache_key: Label | None = NEUTRAL
    prompt_cache_retention: Label | None = NEUTRAL

    @model_validator(mode="after")
    def _counts_go_with_logprobs(self) -> Self:
        if self.top_logprobs and not self.logprobs:
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
        return (self.response_format.over(limits) if self.response_format else None) or super().over(limits)

    @property
    def answer_schema(self) -> dict[str, Any] | None:
        """JSON schema of the answer; None for plain text."""
        return self.response_format.schema_of_answer if self.response_format else None

    def turns(self, system_prompt: str | None) -> Conversation:
        """The turns without what is not passed on; the model's own system prompt where the caller sends none."""
        turns = [message.turn() for message in self.messages]
        if system_prompt is not None and turns[0]["role"] != "system":
            turns.insert(0, {"role": "system", "content": system_prompt})
        return turns

    def for_engine(
        self, model: str, turns: Conversation, chat: ChatFormat, split: bool, beginning: Beginning = "none"
    ) -> dict[str, Any]:
        """The fields for the engine, where the prompt ends in the beginning of a thinking or not.

        In `split` mode stop strings apply to the answer alone, so they stay with us, and the engine has to stream.
        """
        ours = {"messages", "max_tokens", "max_completion_tokens", "reasoning"}
        ours |= set() if self.logprobs else {"top_logprobs"}
        fields = self.engine_fields(ours | {"stop"} if split else ours, chat)
        if split and self.stops:
            options = {"include_usage": True, "continuous_usage_stats": True}  # it may be ended before its last event
            fields |= {"stream": True, "stream_options": options}
        if self.token_limit is not None:
            fields["max_completion_tokens"] = self.token_limit
        if self.answer_schema is not None:
            fields["response_format"] = structural_tag(self.answer_schema, chat, beginning)
        if chat.on:
            fields["chat_template_kwargs"] = dict(chat.on)
        return {**fields, "model": model, "messages": turns}


class CompletionRequest(Sampling):
    """POST /v1/completions."""

    prompt: Prompts
    logprobs: int | None = Field(default=None, ge=0, le=20)
    best_of: Annotated[Any, only(1)] = NEUTRAL
    suffix: Annotated[Any, only("")] = NEUTRAL

    @model_validator(mode="after")
    def _best_of_goes_with_n(self) -> Self:
        if self.best_of is not None and self.n > 1:
            raise ValueError("best_of=1 is less than n")
        return self

    @property
    def choices(self) -> int:
        """Number of completions of all prompts together."""
        return self.n * len(self.prompt)

    def over(self, limits: EndpointLimits) -> str | None:
        """Description of the first limit that the request exceeds, or None."""
        if len(self.prompt) > limits.prompts:
            return f"{len(self.prompt)} prompts are more than {limits.prompts}"
        return super().over(limits)

    def for_engine(self, model: str, chat: ChatFormat) -> dict[str, Any]:
        """The fields for the engine."""
        return {**self.engine_fields(set(), chat), "model": model}
