"""Completions as rows of parquet files: a column for each field of a dataclass, with the field's type."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

from rapo_ray.atomic import write_atomically, write_json_atomically
from rapo_ray.attacks.chain import PLAIN, chain_name, chain_of
from rapo_ray.evaluation.results import Evaluated, Results
from rapo_ray.evaluation.rows import TURNS, EvalRow
from rapo_ray.storage.json_records import to_json
from rapo_ray.storage.layout import EvaluationLayout
from rapo_ray.types import (
    Attack,
    Case,
    Completion,
    Decision,
    Form,
    Group,
    Prompt,
    Rollout,
    Sample,
    Status,
    Turn,
    Verdict,
)  # fmt: skip

ARROW_TYPES = {bool: "bool_", int: "int64", float: "float64"}  # of columns; every other one is text


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRow:
    """One completion of a round or of a held-out measurement, with its prompt, verdict, reward and advantage."""

    group: int
    prompt_id: str
    prompt: str
    harmful: bool
    prompt_level: int | None
    source: str
    split: str
    sample: int
    completion: str
    trace: str
    answer: str
    form: str
    truncated: bool
    tokens: int
    logprob: float | None  # sum over the completion's tokens
    policy_version: int
    engine: str
    status: str
    judge: str
    judge_revision: str | None
    rubric: str | None
    judge_detail: str
    judge_tokens: int
    judge_seconds: float
    level: int | None
    case: str | None
    sentences: int | None
    risk: float | None
    general: float | None
    risk_score: float | None
    general_score: float | None
    refused: bool | None
    second_status: str | None
    second_judge: str | None
    second_risk: float | None
    second_general: float | None
    reward: float | None
    advantage: float | None
    decision: str | None = None
    consistent: bool | None = None
    attack_seed: str | None = None  # the plain prompt's text; None where the prompt is no attack
    attack_seed_id: str | None = None
    attack_seed_level: int | None = None
    attack_chain: str | None = None
    attack_k: int | None = None
    attacker: str | None = None
    attacker_version: int | None = None
    attack_number: int | None = None
    turns: tuple[Turn, ...] = ()  # before the prompt


def to_rows(groups_P: Iterable[Group]) -> list[SampleRow]:
    """Flatten groups, one row a sample."""
    return [_row(group.prompt, sample) for group in groups_P for sample in group.samples_G]


def to_groups(rows: Iterable[SampleRow]) -> list[Group]:
    """Groups of prompts and verdicts, as far as summaries need them; token ids are not in the rows."""
    prompts: dict[int, Prompt] = {}
    samples: dict[int, list[Sample]] = {}
    for row in rows:
        prompts[row.group] = _prompt(row)
        samples.setdefault(row.group, []).append(_sample(row))
    return [Group(prompt, tuple(samples[index])) for index, prompt in prompts.items()]


def write_rows(kind: type, rows: Sequence[Any], path: Path) -> None:
    """Write dataclasses of one kind as parquet, atomically; a column has its type even where it is empty."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    turn = pa.struct([(one.name, pa.string()) for one in fields(Turn)])
    columns = {
        name: pa.array(
            [_encodable(getattr(row, name)) for row in rows],
            pa.list_(turn) if name == TURNS else getattr(pa, _arrow_type(hint))(),
        )
        for name, hint in get_type_hints(kind).items()
    }
    write_atomically(path, lambda temporary: pq.write_table(pa.table(columns), temporary))


def write_groups(groups_P: Iterable[Group], path: Path) -> None:
    """Write the rows of a round or of a held-out measurement, atomically."""
    write_rows(SampleRow, to_rows(groups_P), path)


def write_results(results: Results, models: Sequence[Evaluated], folder: Path) -> None:
    """Write rows.parquet, results.json and, where there is a gate, gate.json, each atomically."""
    layout = EvaluationLayout(folder)
    write_rows(EvalRow, [row for one in models for row in one.rows], layout.rows)
    write_json_atomically(layout.results, to_json(results))
    if results.gate is not None:
        write_json_atomically(layout.gate, to_json(results.gate))


def _arrow_type(hint: Any) -> str:
    return next((ARROW_TYPES[kind] for kind in (hint, *get_args(hint)) if kind in ARROW_TYPES), "string")


def _encodable(value: Any) -> Any:
    """A cell of parquet, whose text is UTF-8: an endpoint may send lone surrogates."""
    if isinstance(value, tuple):
        return [{name: _encodable(text) for name, text in asdict(turn).items()} for turn in value] or None
    return value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else value


def _provenance(attack: Attack | None) -> dict[str, Any]:
    """Columns of a prompt's attack; none without one."""
    if attack is None:
        return {}
    seed = attack.seed
    return {
        "attack_seed": seed.text, "attack_seed_id": seed.id, "attack_seed_level": seed.level,
        "attack_chain": chain_name(attack.chain), "attack_k": len(attack.chain),
        "attacker": attack.attacker, "attacker_version": attack.version, "attack_number": attack.number,
    }  # fmt: skip


def _prompt(row: SampleRow) -> Prompt:
    prompt = Prompt(row.prompt_id, row.prompt, row.harmful, row.prompt_level, row.source, row.split, turns=row.turns)
    if row.attack_seed is None:
        return prompt
    seed = replace(prompt, id=row.attack_seed_id or "", text=row.attack_seed, level=row.attack_seed_level)
    chain = chain_of(row.attack_chain or PLAIN)
    attack = Attack(seed, chain, row.attacker or "", row.attacker_version or 0, row.attack_number or 0)
    return replace(prompt, attack=attack)


def _row(prompt: Prompt, sample: Sample) -> SampleRow:
    rollout, completion, verdict, second = sample.rollout, sample.completion, sample.verdict, sample.verdict.second
    return SampleRow(
        group=rollout.group, prompt_id=prompt.id, prompt=prompt.text, harmful=prompt.harmful,
        prompt_level=prompt.level, source=prompt.source, split=prompt.split, sample=rollout.sample,
        completion=rollout.text, trace=completion.trace, answer=completion.answer, form=completion.form.value,
        truncated=rollout.truncated, tokens=len(rollout.tokens),
        logprob=sum(rollout.logprobs) if rollout.logprobs else None,
        policy_version=rollout.policy_version, engine=rollout.engine,
        status=verdict.status.value, judge=verdict.judge, judge_revision=verdict.revision, rubric=verdict.rubric,
        judge_detail=verdict.detail, judge_tokens=verdict.tokens, judge_seconds=verdict.seconds,
        level=verdict.level, case=verdict.case.value if verdict.case else None, sentences=verdict.sentences,
        risk=verdict.risk, general=verdict.general,
        risk_score=verdict.risk_score, general_score=verdict.general_score, refused=verdict.refused,
        second_status=second.status.value if second else None, second_judge=second.judge if second else None,
        second_risk=second.risk if second else None, second_general=second.general if second else None,
        reward=sample.reward, advantage=sample.advantage,
        decision=verdict.decision.value if verdict.decision else None, consistent=verdict.consistent,
        **_provenance(prompt.attack),
        turns=prompt.turns,
    )  # fmt: skip


def _sample(row: SampleRow) -> Sample:
    rollout = Rollout(
        row.group, row.prompt_id, row.sample, (), (), (), row.completion, row.truncated, row.policy_version, row.engine
    )
    case = Case(row.case) if row.case else None
    verdict = Verdict(
        Status(row.status), row.judge, level=row.level, case=case, sentences=row.sentences, risk=row.risk,
        general=row.general, refused=row.refused, tokens=row.judge_tokens, seconds=row.judge_seconds,
        detail=row.judge_detail, decision=Decision(row.decision) if row.decision else None, consistent=row.consistent,
    )  # fmt: skip
    return Sample(rollout, Completion(Form(row.form), row.trace, "", row.answer), verdict, row.reward, row.advantage)
