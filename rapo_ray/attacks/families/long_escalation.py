"""An escalation of more turns."""

from rapo_ray.attacks.families.short_escalation import LONG, TEMPLATES, lead
from rapo_ray.attacks.family import Mechanism, framed

FAMILY = framed("long_escalation", Mechanism.ESCALATION, TEMPLATES, lead=lambda generator: lead(LONG, generator))
