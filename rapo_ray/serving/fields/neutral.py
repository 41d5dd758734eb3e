"""Fields that clients send without meaning anything by them: taken with the values that change no answer (pure)."""

import json
from typing import Any

from pydantic import AfterValidator, Field

NEUTRAL: Any = Field(default=None, exclude=True)
"""Declaration of a field that goes no further."""


def only(*values: object) -> AfterValidator:
    """Check of a field that is taken with these JSON values alone."""
    listed = " or ".join(json.dumps(value) for value in values)

    def check(value: object) -> object:
        if not any(type(value) is type(one) and value == one for one in values):  # in Python, 1 equals True
            raise ValueError(f"only {listed} is taken here")
        return value

    return AfterValidator(check)


def without_nulls(fields: object) -> object:
    """The fields that say something: a null asks for the default."""
    return {name: value for name, value in fields.items() if value is not None} if isinstance(fields, dict) else fields
