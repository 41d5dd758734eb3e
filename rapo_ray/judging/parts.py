"""A verdict has two parts, risk and general, which one judge gives together or two judges apart."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from rapo_ray.types import Status, Verdict

Part = Literal["risk", "general"]
PARTS: tuple[Part, ...] = ("risk", "general")


def join_parts(verdicts: Sequence[Verdict]) -> Verdict:
    """One verdict of the parts' verdicts, risk first; where a part failed or is malformed, that one is the whole."""
    for verdict in verdicts:
        if verdict.status is not Status.OK:
            return verdict
    if len(verdicts) == 1:
        return verdicts[0]
    risk, general = verdicts
    return replace(
        risk,
        judge=risk.judge if risk.judge == general.judge else f"{risk.judge}+{general.judge}",
        general=general.general,
        refused=general.refused,
        tokens=risk.tokens + general.tokens,
        seconds=max(risk.seconds, general.seconds),
    )
