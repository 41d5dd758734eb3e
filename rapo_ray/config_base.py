"""What every section of the config is made of."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

Dtype = Literal["float32", "bfloat16"]


class Strict(BaseModel):
    """Base of every section: unknown keys fail, and a loaded section does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_bool_for_a_number(cls, value: object, info: ValidationInfo) -> object:
        parts = value if isinstance(value, list | tuple) else [value]
        wants_bool = cls.model_fields[str(info.field_name)].annotation is bool
        if not wants_bool and any(isinstance(part, bool) for part in parts):  # pydantic would take `yes` as 1
            raise ValueError("this setting takes no true or false (nor YAML's bare yes, no, on, off)")
        return value
