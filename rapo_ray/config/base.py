"""The base class of every config section, and types that sections share."""

from functools import cache
from pathlib import Path
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

NATIVE_BF16 = {"avx512_bf16", "amx_bf16", "bf16"}  # flags of x86 and ARM processors


@cache
def cpu_dtype() -> str:
    """`bfloat16` if this machine's processor computes in it natively, else `float32`, which is then far faster."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "float32"
    lines = [line for line in text.lower().splitlines() if line.startswith(("flags", "features"))]
    return "bfloat16" if NATIVE_BF16 & {flag for line in lines for flag in line.split()} else "float32"


Dtype = Literal["auto", "float32", "bfloat16"]
"""A data type; a root config resolves `auto` for its device, so that the resolved config names the type."""


def device_dtype(section: object, device: object) -> object:
    """A section as it is read, with the data type that fits the device in the place of `auto` or of none."""
    resolved = cpu_dtype() if device == "cpu" else "bfloat16"
    if isinstance(section, BaseModel):
        return section.model_copy(update={"dtype": resolved}) if getattr(section, "dtype", "") == "auto" else section
    if not isinstance(section, dict):
        return section  # its own validator refuses it
    return {**section, "dtype": resolved} if section.get("dtype", "auto") == "auto" else section


class Strict(BaseModel):
    """Base class of every section: unknown keys are errors, and a loaded section is immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_bool_for_a_number(cls, value: object, info: ValidationInfo) -> object:
        parts = value if isinstance(value, list | tuple) else [value]
        annotation = cls.model_fields[str(info.field_name)].annotation
        wants_bool = bool in (annotation, *get_args(annotation))
        if not wants_bool and any(isinstance(part, bool) for part in parts):  # pydantic would take `yes` as 1
            raise ValueError("this setting takes no true or false (nor YAML's bare yes, no, on, off)")
        return value
