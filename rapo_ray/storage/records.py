"""A round as rows (every prompt, completion, verdict, reward, advantage) and as one line of metrics."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rapo_ray.atomic import write_atomically
from rapo_ray.judging.agreement import agreement
from rapo_ray.types import Case, Group, Prompt, RoundResult, Sample, Status

MetricLine = dict[str, Any]

# Named, not guessed from the rows: a column that is empty in one round must have its type all the same.
COLUMNS = {
    **dict.fromkeys(("group", "sample", "tokens", "policy_version", "judge_tokens"), "int64"),
    **dict.fromkeys(("prompt_level", "level", "sentences"), "int64"),
    **dict.fromkeys(("harmful", "truncated", "refused"), "bool_"),
    **dict.fromkeys(("logprob", "judge_seconds", "risk", "general", "reward", "advantage"), "float64"),
    **dict.fromkeys(("risk_score", "general_score", "second_risk", "second_general"), "float64"),
}  # every other column is text


def to_rows(groups_P: Iterable[Group]) -> list[dict[str, Any]]:
    """One flat row per sample."""
    return [_row(group.prompt, sample) for group in groups_P for sample in group.samples_G]


def write_parquet(groups_P: Iterable[Group], path: Path) -> None:
    """Write the rows of a round; the file appears whole."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = to_rows(groups_P)
    schema = pa.schema([(name, getattr(pa, COLUMNS.get(name, "string"))()) for name in rows[0]])
    table = pa.Table.from_pylist(rows, schema=schema)
    write_atomically(path, lambda temporary: pq.write_table(table, temporary))


def read_groups(path: Path) -> list[Group]:
    """The groups of a held-out file, as far as summaries need them (prompt and verdict)."""
    import pyarrow.parquet as pq

    from rapo_ray.types import Completion, Form, Rollout, Verdict

    prompts: dict[int, Prompt] = {}
    samples: dict[int, list[Sample]] = {}
    for row in pq.read_table(path).to_pylist():
        prompts[row["group"]] = Prompt(
            row["prompt_id"], row["prompt"], row["harmful"], row["prompt_level"], row["source"], row["split"]
        )
        rollout = Rollout(
            row["group"], row["prompt_id"], row["sample"], (), (), (), row["completion"], row["truncated"],
            row["policy_version"], row["engine"],
        )  # fmt: skip
        completion = Completion(Form(row["form"]), row["trace"], "", row["answer"])
        verdict = Verdict(
            Status(row["status"]),
            row["judge"],
            level=row["level"],
            case=Case(row["case"]) if row["case"] else None,
            sentences=row["sentences"],
            risk=row["risk"],
            general=row["general"],
            refused=row["refused"],
            tokens=row["judge_tokens"],
            seconds=row["judge_seconds"],
            detail=row["judge_detail"],
        )
        sample = Sample(rollout, completion, verdict, row["reward"], row["advantage"])
        samples.setdefault(row["group"], []).append(sample)
    return [Group(prompt, tuple(samples[index])) for index, prompt in prompts.items()]


def _row(prompt: Prompt, sample: Sample) -> dict[str, Any]:
    rollout, completion, verdict = sample.rollout, sample.completion, sample.verdict
    return {
        "group": rollout.group,
        "prompt_id": prompt.id,
        "prompt": prompt.text,
        "harmful": prompt.harmful,
        "prompt_level": prompt.level,
        "source": prompt.source,
        "split": prompt.split,
        "sample": rollout.sample,
        "completion": rollout.text,
        "trace": completion.trace,
        "answer": completion.answer,
        "form": completion.form.value,
        "truncated": rollout.truncated,
        "tokens": len(rollout.tokens),
        "logprob": sum(rollout.logprobs) if rollout.logprobs else None,
        "policy_version": rollout.policy_version,
        "engine": rollout.engine,
        "status": verdict.status.value,
        "judge": verdict.judge,
        "judge_revision": verdict.revision,
        "rubric": verdict.rubric,
        "judge_detail": verdict.detail,
        "judge_tokens": verdict.tokens,
        "judge_seconds": verdict.seconds,
        "level": verdict.level,
        "case": verdict.case.value if verdict.case else None,
        "sentences": verdict.sentences,
        "risk": verdict.risk,
        "general": verdict.general,
        "risk_score": verdict.risk_score,
        "general_score": verdict.general_score,
        "refused": verdict.refused,
        "second_status": verdict.second.status.value if verdict.second else None,
        "second_judge": verdict.second.judge if verdict.second else None,
        "second_risk": verdict.second.risk if verdict.second else None,
        "second_general": verdict.second.general if verdict.second else None,
        "reward": sample.reward,
        "advantage": sample.advantage,
    }


def metric_line(result: RoundResult) -> MetricLine:
    """One line of metrics.jsonl; a figure that has nothing to be computed from is None."""
    samples = [sample for group in result.groups_P for sample in group.samples_G]
    scored = [sample for sample in samples if sample.verdict.scorable]
    rewards_PG = [[s.reward for s in group.samples_G if s.verdict.scorable] for group in result.groups_P]
    generated = sum(len(sample.rollout.tokens) for sample in samples)
    return {
        "round": result.round_number,
        "policy_version": result.policy_version,
        "reward": {
            "total": _mean(sample.reward for sample in scored),
            "risk": _mean(sample.verdict.risk for sample in scored),
            "general": _mean(sample.verdict.general for sample in scored),
            "general_harmful": _mean_general(result, harmful=True),
            "general_benign": _mean_general(result, harmful=False),
        },
        "level_by_case": level_by_case(samples),
        "shares": {
            "malformed": _share(samples, lambda sample: sample.verdict.status is Status.MALFORMED),
            "truncated": _share(samples, lambda sample: sample.rollout.truncated),
            "unscorable": _share(samples, lambda sample: not sample.verdict.scorable),
            "zero_variance_groups": _share(rewards_PG, lambda rewards: len(rewards) > 1 and len(set(rewards)) == 1),
            "unscorable_groups": _share(rewards_PG, lambda rewards: len(rewards) < 2),
            "trained": result.trained_sequences / len(samples),
        },
        "lengths": {
            "completion_tokens": quantiles([len(sample.rollout.tokens) for sample in samples]),
            "trace_sentences": quantiles([s.verdict.sentences for s in samples if s.verdict.sentences is not None]),
        },
        "update": _update(result),
        "judge": {
            "tokens": sum(sample.verdict.tokens for sample in samples),
            "agreement": agreement(samples),
            "statuses": {status.value: sum(s.verdict.status is status for s in samples) for status in Status},
        },
        "seconds": result.seconds,
        "drawing_seconds": result.drawing_seconds,
        "tokens_per_second": _rates(result, generated),
        "tokens": {"generated": generated, "trained": int(result.update.sums.get("tokens", 0))},
    }


def level_by_case(samples: Iterable[Sample]) -> dict[str, dict[str, int]]:
    """How often each case was given at each level."""
    table = {str(level): {case.value: 0 for case in Case} for level in (1, 2, 3)}
    for sample in samples:
        if sample.verdict.level is not None and sample.verdict.case is not None:
            table[str(sample.verdict.level)][sample.verdict.case.value] += 1
    return table


def quantiles(values: Sequence[int]) -> dict[str, float | None]:
    """Mean, median, 95th percentile and maximum (nearest rank: the least value with that share at or below it)."""
    if not values:
        return dict.fromkeys(("mean", "p50", "p95", "max"))
    ranked = sorted(values)
    pick = {f"p{percent}": ranked[-(-percent * len(ranked) // 100) - 1] for percent in (50, 95)}
    return {"mean": sum(ranked) / len(ranked), **pick, "max": ranked[-1]}


def _update(result: RoundResult) -> dict[str, float | None]:
    sums = result.update.sums

    def per_step(name: str) -> float | None:
        return sums[name] / sums["optimizer_steps"] if sums.get("optimizer_steps") and name in sums else None

    def per_token(name: str, tokens: str = "tokens") -> float | None:
        return sums[name] / sums[tokens] if sums.get(tokens) and name in sums else None

    return {
        "loss": per_step("loss"),
        "kl": per_token("kl"),
        "entropy": per_token("entropy", "entropy_tokens"),
        "clip_share": per_token("clipped"),
        "logprob_gap_mean": per_token("gap", "gap_tokens"),
        "logprob_gap_max": sums.get("gap_max"),
        "grad_norm": per_step("grad_norm"),
        "learning_rate": sums.get("learning_rate"),
        "optimizer_steps": sums.get("optimizer_steps"),
        "pairs": sums.get("pairs"),
        "pair_accuracy": per_token("pair_accuracy", "pairs"),
        "pair_margin": per_token("pair_margin", "pairs"),
    }


def _rates(result: RoundResult, generated: int) -> dict[str, float | None]:
    trained = result.update.sums.get("tokens", 0.0)
    tokens = {"generate_and_judge": generated, "reference": trained, "update": trained}
    seconds = {**result.seconds, "generate_and_judge": result.drawing_seconds}
    return {phase: count / seconds[phase] if seconds.get(phase) else None for phase, count in tokens.items()}


def _mean_general(result: RoundResult, harmful: bool) -> float | None:
    return _mean(
        sample.verdict.general
        for group in result.groups_P
        if group.prompt.harmful is harmful
        for sample in group.samples_G
        if sample.verdict.scorable
    )


def _mean(values: Iterable[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None


def _share(items: Sequence[Any], holds: Any) -> float:
    return sum(bool(holds(item)) for item in items) / len(items)
