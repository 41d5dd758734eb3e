"""The base class of a request and its parts."""

from pydantic import BaseModel, ConfigDict, model_validator

from rapo_ray.serving.fields.neutral import without_nulls


class Request(BaseModel):
    """Base class of the parts of a request: null stands for the default, unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _nulls_are_defaults(cls, fields: object) -> object:
        return without_nulls(fields)
