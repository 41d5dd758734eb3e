"""All families, by name."""

from rapo_ray.attacks.families import (
    authority,
    fiction,
    homoglyphs,
    long_context,
    long_escalation,
    many_shot,
    nested,
    past_tense,
    prefix_injection,
    refusal_suppression,
    role_play,
    short_escalation,
    side_tasks,
    thought,
    translation,
    urgency,
    what_if,
)
from rapo_ray.attacks.families.encodings import base64_text, hex_text, leet, morse, reversed_text, rot13
from rapo_ray.attacks.families.formats import code_comment, json_task, numbered_words, split
from rapo_ray.attacks.family import Family

_MODULES = (
    authority, base64_text, code_comment, fiction, hex_text, homoglyphs, json_task, leet, long_context, long_escalation,
    many_shot, morse, nested, numbered_words, past_tense, prefix_injection, refusal_suppression, reversed_text,
    role_play, rot13, short_escalation, side_tasks, split, thought, translation, urgency, what_if,
)  # fmt: skip

FAMILIES: dict[str, Family] = {module.FAMILY.name: module.FAMILY for module in _MODULES}
