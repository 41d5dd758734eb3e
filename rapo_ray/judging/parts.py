"""The two parts of a verdict, risk and general, from one judge together or from two judges separately."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from rapo_ray.types import Status, Verdict

Part = Literal["risk", "general"]
PARTS: tuple[Part, ...] = ("risk", "general")


def join_parts(verdicts: Sequence[Verdict]) -> Verdict:
    """One verdict from those of the parts, risk first; a failed or malformed part becomes the whole verdict."""
    if len(verdicts) == 1:
        return verdicts[0]
    for verdict in verdicts:
        if verdict.status not in (Status.OK, Status.INJECTION):
            return verdict
    risk, general = verdicts
    return replace(
        risk,
        status=Status.INJECTION if Status.INJECTION in (risk.status, general.status) else Status.OK,
        judge=_joined(risk.judge, general.judge) or risk.judge,
        revision=_joined(risk.revision, general.revision),
        rubric=_joined(risk.rubric, general.rubric),
        general=general.general,
        general_score=general.general_score,
        refused=general.refused,
        tokens=risk.tokens + general.tokens,
        seconds=max(risk.seconds, general.seconds),
    )


def _joined(risk: str | None, general: str | None) -> str | None:
    return risk if risk == general else f"{risk or '-'}+{general or '-'}"
