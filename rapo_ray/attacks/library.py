"""All families, by name."""

from rapo_ray.attacks.families import base64_text
from rapo_ray.attacks.family import Family

FAMILIES: dict[str, Family] = {module.FAMILY.name: module.FAMILY for module in (base64_text,)}
