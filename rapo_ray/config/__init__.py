"""The configuration: pydantic sections, each field documented where it is defined."""

from rapo_ray.config.load import load_config
from rapo_ray.config.run import RunConfig

__all__ = ["RunConfig", "load_config"]
