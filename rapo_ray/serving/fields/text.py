"""Text of a request, whole or in parts, that can be encoded (pure)."""

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from rapo_ray.serving.fields.neutral import without_nulls

SEPARATOR = "\n"  # between the text parts of a message, as vLLM joins them
EMPTY: tuple[object, ...] = ([], {})
UNREAD = ("cache_control",)  # of a part, without a meaning for its text


def encodable(text: str) -> str:
    """The text as it is; raises ValueError where a lone surrogate keeps it from being written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"character {error.start + 1} is a lone surrogate: send text that UTF-8 can hold") from None
    return text


def joined(content: object) -> object:
    """The text of a message's content: parts become one text, anything else stays as it is; raises ValueError."""
    if not isinstance(content, list):
        return content
    if not content:
        raise ValueError("a list of parts needs at least one")
    return SEPARATOR.join(_text_of(number, part) for number, part in enumerate(content, start=1))


def _text_of(number: int, part: Any) -> str:
    fields = without_nulls(part)
    if not isinstance(fields, dict):
        raise ValueError(f'part {number} is no object: parts are {{"type": "text", "text": "..."}}')
    kind = fields.get("type")
    if kind not in ("text", "refusal"):
        raise ValueError(f"part {number} has another type than text, which is all that is taken here")
    text = fields.get(kind)
    if not isinstance(text, str):
        raise ValueError(f"part {number} has no text")
    known = ("type", kind, *UNREAD)
    others = [name for name, value in fields.items() if name not in known and value not in EMPTY]
    if others:
        raise ValueError(f"part {number} has {others[0]!r}, which is not taken here")
    return text


def listed(texts: object) -> object:
    """One text as a list of it; raises ValueError for token ids."""
    if isinstance(texts, list) and any(isinstance(one, int | list) for one in texts):
        raise ValueError("token ids are not taken here: send text")
    return [texts] if isinstance(texts, str) else texts


Text = Annotated[str, AfterValidator(encodable)]
Content = Annotated[Text, BeforeValidator(joined)]
Stop = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(encodable)]
Stops = Annotated[list[Stop], BeforeValidator(listed), Field(max_length=4)]
Prompt = Annotated[str, Field(min_length=1), AfterValidator(encodable)]
Prompts = Annotated[list[Prompt], BeforeValidator(listed), Field(min_length=1)]
