"""Settings of a model's chat format, where its chat template does not show it."""

from typing import Self

from pydantic import Field, field_validator, model_validator

from rapo_ray.config.base import Strict
from rapo_ray.config.request import JsonObject

# Arguments with which we render a template ourselves.
OWN_ARGUMENTS = frozenset(
    ("add_generation_prompt", "chat_template", "continue_final_message", "return_dict", "tokenize")
)


def check_template_kwargs(value: JsonObject | None) -> JsonObject | None:
    """The arguments of a chat template; raises ValueError for one that every rendering sets itself."""
    if taken := OWN_ARGUMENTS.intersection(value or {}):
        raise ValueError(f"`{min(taken)}` is no argument to choose: it is set wherever a template is rendered")
    return value


class ThinkingConfig(Strict):
    """Settings for a chat template that does not show the model's chat format; what is unset is read from it."""

    open: str | None = Field(default=None, min_length=1)
    """Text that opens the thinking, such as `<think>`; unset, it is read from the chat template."""
    close: str | None = Field(default=None, min_length=1)
    """Text that closes the thinking, such as `</think>`; set it together with `open`."""
    answer: tuple[str, str] | None = None
    """Texts that wrap the answer, such as `["<answer>", "</answer>"]`; unset, they are read from the chat template."""
    end_of_turn: str | None = Field(default=None, min_length=1)
    """Token that ends the model's turn; unset, it is the one that the chat template writes."""
    template_kwargs: JsonObject | None = None
    """Arguments of the chat template that make the model think, as `{enable_thinking: true}`; unset, they are read."""

    @field_validator("open", "close", "end_of_turn", mode="before")
    @classmethod
    def _mark_is_text(cls, value: object) -> object:
        if isinstance(value, list):  # YAML reads [THINK] as a list
            raise ValueError("this is a text, which YAML reads as a list: quote it, as in '\"[THINK]\"'")
        if isinstance(value, str) and not value.strip():
            raise ValueError("this is white space alone, which marks nothing")
        return value

    @field_validator("template_kwargs")
    @classmethod
    def _arguments_of_a_template(cls, value: JsonObject | None) -> JsonObject | None:
        return check_template_kwargs(value)

    @model_validator(mode="after")
    def _marks_in_pairs(self) -> Self:
        if (self.open is None) != (self.close is None):
            raise ValueError("thinking.open and thinking.close go together: set both, or none")
        if self.open is not None and self.close is not None and self.open.strip() == self.close.strip():
            raise ValueError(f"thinking.open and thinking.close are the same ({self.open.strip()!r}): give two marks")
        return self
