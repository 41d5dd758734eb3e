"""Settings of the requests to an OpenAI-compatible endpoint."""

from typing import ClassVar, Literal

from pydantic import Field, JsonValue, field_validator

from rapo_ray.config.base import Strict

JsonObject = dict[str, JsonValue]


class RequestConfig(Strict):
    """The body of each request to an endpoint."""

    OWN: ClassVar[dict[str, str]] = {
        **dict.fromkeys(("model", "messages", "stream", "n"), "every request has its own"),
        **dict.fromkeys(("max_tokens", "max_completion_tokens"), "choose its name with `limit_field`"),
    }  # fields that extra_body may not have, with the reason

    limit_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """Name of the token limit in the body; hosted reasoning models take only `max_completion_tokens`."""
    extra_body: JsonObject = Field(default={})
    """Further fields of the body, such as `reasoning_effort`."""

    @field_validator("extra_body")
    @classmethod
    def _no_field_twice(cls, value: JsonObject) -> JsonObject:
        for name in value:
            if name in cls.OWN:
                raise ValueError(f"`{name}` is no extra field: {cls.OWN[name]}")
        return value


class JudgeRequestConfig(RequestConfig):
    """The body of each request to an `http` judge."""

    OWN: ClassVar[dict[str, str]] = RequestConfig.OWN | {
        "temperature": "set `request.temperature`",
        "chat_template_kwargs": "set the judge's `template_kwargs`",
        **dict.fromkeys(("logprobs", "top_logprobs", "response_format"), "choose the form with the judge's `reply`"),
    }

    temperature: float | None = 0.0
    """Temperature of the replies; null sends none, for hosted reasoning models refuse one."""


class ModelRequestConfig(RequestConfig):
    """The body of each request to an evaluated endpoint."""

    OWN: ClassVar[dict[str, str]] = RequestConfig.OWN | {
        "temperature": "set `evaluation.temperature`",
        "seed": "set the run's `seed`, or leave it out with `seed: false`",
    }

    seed: bool = True
    """Send each request its seed, derived from the run's; some endpoints refuse the field."""
