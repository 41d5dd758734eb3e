"""Choice of the prompts whose traces are swapped, and of the traces that they are given (pure, seeded)."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

from rapo_ray.evaluation.heldout import NO_LEVEL, level_of
from rapo_ray.evaluation.rows import EvalRow
from rapo_ray.evaluation.swaps import KINDS, Kind, SwapRow
from rapo_ray.judging.decisions import decision_of
from rapo_ray.judging.parts import answer_refuses
from rapo_ray.models.chat import ChatFormat, parse_completion
from rapo_ray.seeds import derive_seed
from rapo_ray.text.sentences import split_sentences
from rapo_ray.types import Completion, Decision, Form, Group, Prompt

DECIDED = (Decision.HELP, Decision.REFUSE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """A measured completion whose trace decides on the whole request."""

    prompt: Prompt
    level: str
    trace: str
    alone: bool  # the thinking is the trace and no more
    decision: Decision
    refused: bool  # by the answer


def decided_groups(groups_P: Sequence[Group], chat: ChatFormat) -> list[Decided]:
    """Well-formed and scorable completions of a measurement whose trace decides to refuse or to help."""
    return [
        one
        for group in groups_P
        for sample in group.samples_G
        if sample.verdict.scorable
        for completion in [parse_completion(sample.rollout.text, sample.rollout.truncated, chat)]
        for one in _decided(
            group.prompt,
            level_of(group),
            completion,
            sample.verdict.decision,
            answer_refuses(sample.verdict, completion),
        )
    ]


def decided_rows(rows: Sequence[EvalRow], prompts: Sequence[Prompt], chat: ChatFormat) -> list[Decided]:
    """The same of an evaluation's rows that no attack has changed."""
    by_id = {prompt.id: prompt for prompt in prompts}
    return [
        one
        for row in rows
        if row.attack == "none" and row.kind != "utility" and row.answer_refuses is not None
        for one in _decided(
            replace(by_id[row.prompt_id], turns=row.turns),
            NO_LEVEL if row.level is None else str(row.level),
            parse_completion(row.completion, row.truncated, chat),
            Decision(row.decision) if row.decision else None,
            row.answer_refuses,
        )
    ]


def _decided(
    prompt: Prompt, level: str, completion: Completion, decision: Decision | None, refused: bool
) -> list[Decided]:
    """None or one; a trace that no judge read is read by our rules."""
    if completion.form is not Form.OK:
        return []
    decision, alone = decision or decision_of(completion.trace), completion.trace == completion.thinking
    if decision not in DECIDED:
        return []
    return [
        Decided(prompt=prompt, level=level, trace=completion.trace, alone=alone, decision=decision, refused=refused)
    ]


def plan_swaps(decided: Sequence[Decided], count: int, seed: int) -> list[SwapRow]:
    """The three swaps of at most `count` prompts, chosen evenly over levels and labels; seeded by prompt."""
    return [row for one in choose(decided, count, seed) for row in _swaps(one, decided, seed)]


def choose(decided: Sequence[Decided], count: int, seed: int) -> list[Decided]:
    """One completion each of at most `count` prompts, levels and labels in turn."""
    by_prompt: dict[str, list[Decided]] = {}
    for one in decided:
        by_prompt.setdefault(one.prompt.id, []).append(one)
    strata: dict[tuple[str, bool], list[Decided]] = {}
    for name in sorted(by_prompt, key=lambda name: derive_seed(seed, "swap", name)):
        one = random.Random(derive_seed(seed, "sample", name)).choice(by_prompt[name])
        strata.setdefault((one.level, one.prompt.harmful), []).append(one)
    turns = zip_longest(*(strata[key] for key in sorted(strata)))
    return [one for turn in turns for one in turn if one is not None][:count]


def _swaps(one: Decided, decided: Sequence[Decided], seed: int) -> list[SwapRow]:
    def place(kind: Kind, donor: Decided) -> int:
        return derive_seed(seed, kind, one.prompt.id, donor.prompt.id)

    strangers = [donor for donor in decided if donor.prompt.id != one.prompt.id]
    opposed = [donor for donor in strangers if donor.decision is not one.decision]
    opposite = min(opposed, key=lambda donor: (donor.level != one.level, place("opposite", donor)), default=None)
    other = min(strangers, key=lambda donor: place("other", donor), default=None)
    beginning = before_decision(one.trace)
    cut = replace(one, trace=beginning) if beginning else None
    return [_row(one, kind, donor) for kind, donor in zip(KINDS, (opposite, cut, other), strict=True)]


def before_decision(trace: str) -> str:
    """First half of a trace's sentences, or fewer, so that none of them decides; none of a single sentence."""
    sentences = split_sentences(trace)
    half = sentences[: len(sentences) // 2]
    while half and decision_of(" ".join(half)) is not Decision.NONE:
        half.pop()
    return " ".join(half)


def _row(one: Decided, kind: Kind, donor: Decided | None) -> SwapRow:
    row = SwapRow(
        swap=kind, prompt_id=one.prompt.id, prompt=one.prompt.whole_text, harmful=one.prompt.harmful, level=one.level,
        donor=None, trace="", closed=True, decision=one.decision, refused_before=one.refused, outcome="no_trace",
    )  # fmt: skip
    if donor is None:
        return row
    return replace(
        row, donor=donor.prompt.id, trace=donor.trace, closed=donor.alone, decision=donor.decision, outcome="planned"
    )
