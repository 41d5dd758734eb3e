"""A verdict has two parts, risk and general, which one judge gives together or two judges apart."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from rapo_ray.types import Status, Verdict

Part = Literal["risk", "general"]
PARTS: tuple[Part, ...] = ("risk", "general")


def join_parts(verdicts: Sequence[Verdict]) -> Verdict:
    """One verdict of the parts' verdicts, risk first; where a part failed or is malformed, that one is the whole."""
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
