"""Records as JSON: frozen dataclasses whose fields are the keys on disk."""

import json
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

T = TypeVar("T")
_adapter: Callable[[Any], TypeAdapter[Any]] = cache(TypeAdapter)


def to_json(record: object) -> dict[str, Any]:
    """JSON object of a record."""
    content: dict[str, Any] = _adapter(type(record)).dump_python(record, mode="json", by_alias=True)
    return content


def from_json(kind: type[T], text: str | bytes) -> T:
    """Record in a JSON text, unknown keys ignored; raises ValueError that names the first missing or mistyped key."""
    content = json.dumps(json.loads(text), ensure_ascii=False).encode("utf-8", "replace")  # without lone surrogates
    try:
        record: T = _adapter(kind).validate_json(content, strict=True)
        return record
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise ValueError(f"{key}: {first['msg']}" if key else first["msg"]) from None
