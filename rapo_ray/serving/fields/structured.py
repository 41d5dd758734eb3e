"""Structured output: an answer in JSON, behind a thinking that stays free (pure)."""

import json
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from rapo_ray.config.serving import EndpointLimits
from rapo_ray.models.chat import ChatFormat
from rapo_ray.serving.fields.base import Request
from rapo_ray.serving.fields.text import Text, encodable
from rapo_ray.serving.reasoning import Beginning

ANY_OBJECT = {"type": "object"}
MAX_WHITESPACE = 32  # characters in a row between the parts of an answer: room for a line end and indentation


class JsonSchema(Request):
    """A named JSON schema."""

    name: Annotated[Text, Field(max_length=64)] | None = None
    description: Text | None = None
    content: dict[str, Any] = Field(alias="schema")
    strict: bool = False


class ResponseFormat(Request):
    """The form of an answer."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _schema_goes_with_its_type(self) -> Self:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("json_schema goes with the type json_schema, and only with it")
        return self

    @property
    def schema_of_answer(self) -> dict[str, Any] | None:
        """Schema of the answer; None for plain text."""
        if self.json_schema is not None:
            return self.json_schema.content
        return None if self.type == "text" else ANY_OBJECT

    def over(self, limits: EndpointLimits) -> str | None:
        """Description of the first limit that the schema exceeds, or None."""
        schema = self.schema_of_answer or {}
        if depth(schema) > limits.schema_depth:
            return f"response_format: the schema is deeper than {limits.schema_depth}"
        text = json.dumps(schema, ensure_ascii=False)
        if len(text) > limits.schema_characters:
            return f"response_format: the schema has more than {limits.schema_characters} characters"
        try:
            encodable(text)
        except ValueError as error:
            return f"response_format: {error}"
        return None


def depth(value: object) -> int:
    """Number of lists and objects within each other."""
    level, deep = [value], 0
    while level := [one for one in level if isinstance(one, dict | list)]:
        deep += 1
        level = [part for one in level for part in (one.values() if isinstance(one, dict) else one)]
    return deep


def structural_tag(schema: dict[str, Any], chat: ChatFormat, beginning: Beginning) -> dict[str, Any]:
    """The `response_format` by which vLLM lets a thinking be as it is and holds what follows to a schema.

    A schema alone would hold the first token to it, and keep the model from thinking. The format is xgrammar's.
    """
    answer = {"type": "json_schema", "json_schema": schema, "max_whitespace_cnt": MAX_WHITESPACE}
    if beginning == "closed":
        elements = [answer, *_constant(chat.answer_end)]
    else:
        opening = chat.lead if beginning == "opened" else chat.opening
        _, mark, behind = chat.closing.partition(chat.close_mark)  # the first mark ends it, as in the splitter
        thinking = {"type": "tag", "begin": opening, "content": {"type": "any_text"}, "end": mark}
        elements = [thinking, *_constant(behind + chat.answer_start), answer, *_constant(chat.answer_end)]
    return {"type": "structural_tag", "format": {"type": "sequence", "elements": elements}}


def _constant(text: str) -> list[dict[str, Any]]:
    return [{"type": "const_string", "value": text}] if text else []
