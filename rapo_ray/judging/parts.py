"""The two parts of a verdict, risk and general, from one judge together or from two judges separately."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from rapo_ray.judging.decisions import follows
from rapo_ray.judging.rules import RISK_REWARD
from rapo_ray.text.refusals import is_refusal
from rapo_ray.types import Case, Completion, Status, Verdict

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


def hold_to_answer(verdict: Verdict, completion: Completion, counts: bool) -> Verdict:
    """The verdict with its trace held against the answer; where that counts, a contradictory trace gets R = -1.

    That is as little as a poor trace gets, whatever its length: no contradiction earns more than a consistent trace.
    """
    if verdict.decision is None or verdict.consistent is None:
        return verdict
    refused = answer_refuses(verdict, completion)
    held = replace(verdict, consistent=verdict.consistent and follows(verdict.decision, refused))
    if held.consistent or not counts or held.case in (None, Case.POOR):
        return held
    return replace(held, case=Case.CONTRADICTORY, risk=RISK_REWARD[Case.CONTRADICTORY])


def answer_refuses(verdict: Verdict, completion: Completion) -> bool:
    """True where the verdict says that the answer refuses or, if it does not know, our own rules do."""
    return is_refusal(completion.answer) if verdict.refused is None else verdict.refused


def _joined(risk: str | None, general: str | None) -> str | None:
    return risk if risk == general else f"{risk or '-'}+{general or '-'}"
