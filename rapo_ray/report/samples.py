"""Samples of completions for a report: bounded, seeded, with every outcome among them."""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rapo_ray.evaluation.rows import EvalRow
from rapo_ray.report.evaluation_section import title
from rapo_ray.report.parts import number
from rapo_ray.seeds import derive_seed
from rapo_ray.storage.layout import RunLayout
from rapo_ray.storage.reader import Evidence, read_rows
from rapo_ray.storage.rows import SampleRow
from rapo_ray.types import Form, Status

MAX_SAMPLES = 3000
MAX_TEXT = 6000  # characters of a prompt, trace or answer; a longer one says how much of it is left out


@dataclass(frozen=True, slots=True, kw_only=True)
class RowHead:
    """Columns of a row that its outcome and its identity follow from; those with a default are an evaluation's."""

    prompt_id: str
    status: str
    harmful: bool
    general: float | None
    refused: bool | None
    outcome: str | None = None
    model: str | None = None
    suite: str | None = None
    attack: str | None = None
    split: str | None = None  # of a try, as its number
    number: int | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """A file of rows; `stage` is their filter in the page, and `kind` and outcome the stratum they are sampled from."""

    path: Path
    stage: str
    kind: str
    rows: type[SampleRow] | type[EvalRow] = SampleRow
    repeats: bool = False  # may hold rows of an earlier file


@dataclass(frozen=True, slots=True)
class Samples:
    """Rows as the page's script reads them, and the number of rows that they were sampled from."""

    rows: list[dict[str, Any]]
    of: int


def sources(evidence: Evidence) -> list[Source]:
    """Files of rows: evaluations first, then held-out prompts, then rounds."""
    of_rounds = evidence.evaluations_of_rounds
    evaluations = [*reversed(of_rounds), *(one for one in evidence.evaluations if one not in of_rounds)]
    files = [Source(one.rows, title(one), title(one), EvalRow, one in of_rounds) for one in evaluations if one.rows]
    for stage in evidence.heldout:
        name = f"Held-out, {stage}"
        files.append(Source(RunLayout(evidence.path).heldout_file(stage), name, name))
    return files + [Source(path, f"Round {index}", "rounds") for index, path in evidence.rounds.items()]


def choose(evidence: Evidence, limit: int = MAX_SAMPLES) -> Samples:
    """Sample at most `limit` rows, evenly over kinds of source and outcomes; the same ones of the same folder."""
    files = sources(evidence)
    strata = _strata(files)
    seed = evidence.config.seed if evidence.config else 0
    chosen: dict[int, list[int]] = {}
    for name, count in quotas({name: len(places) for name, places in strata.items()}, limit).items():
        for file, index in random.Random(derive_seed(seed, "report", *name)).sample(strata[name], count):
            chosen.setdefault(file, []).append(index)
    rows = [
        _shown(row, files[file].stage)
        for file in sorted(chosen)
        for row in read_rows(files[file].rows, files[file].path, sorted(chosen[file]))
    ]
    return Samples(rows, sum(map(len, strata.values())))


def _strata(files: Sequence[Source]) -> dict[tuple[str, str], list[tuple[int, int]]]:
    """Places (file, row) of all rows by kind and outcome; an evaluation's row that an earlier file had is left out."""
    strata: dict[tuple[str, str], list[tuple[int, int]]] = {}
    seen: set[tuple[str | int | None, ...]] = set()
    for file, source in enumerate(files):
        for index, row in enumerate(read_rows(RowHead, source.path)):
            if row.outcome is not None:  # the rows from before the rounds are in the file of each later evaluation
                key = (row.model, row.suite, row.attack, row.prompt_id, row.split, row.number)
                if source.repeats and key in seen:
                    continue
                seen.add(key)
            strata.setdefault((source.kind, outcome(row)), []).append((file, index))
    return strata


def quotas(sizes: Mapping[tuple[str, str], int], limit: int) -> dict[tuple[str, str], int]:
    """Number to take of each: all of the small ones, the rest shared evenly."""
    left, counts = limit, {}
    ranked = sorted(sizes.items(), key=lambda item: (item[1], item[0]))
    for position, (name, size) in enumerate(ranked):
        counts[name] = min(size, left // (len(ranked) - position))
        left -= counts[name]
    return counts


def outcome(row: RowHead | SampleRow | EvalRow) -> str:
    """Outcome of a row: that of an evaluation is recorded, others follow from the verdict."""
    if not isinstance(row, SampleRow) and row.outcome is not None:
        return row.outcome
    if row.status == Status.MALFORMED:
        return "malformed"
    if row.general is None:
        return "unscorable"
    if row.harmful:
        return "refused" if row.general == 1 else "complied"
    if row.general == 1:
        return "answered"
    return "over_refused" if row.refused else "unhelpful"


def _shown(row: SampleRow | EvalRow, stage: str) -> dict[str, Any]:
    facts: list[tuple[str, Any]] = [
        ("form", row.form), ("verdict", row.status), ("case", row.case), ("decision", row.decision),
        ("consistent", row.consistent), ("sentences", row.sentences),
        ("R", _signed(row.risk)), ("G", _signed(row.general)),
    ]  # fmt: skip
    if isinstance(row, EvalRow):
        stage, suite, level, note = f"{stage}: {row.model}", row.suite, row.level, row.detail
        tries = [("attacker", row.attacker), ("try", row.number), ("families", row.split)]
        facts = [("attack", row.attack if row.attack != "none" else None), *tries, ("category", row.category), *facts]
        facts.append(("tokens", row.tokens))
    else:
        suite, level, note = row.source, row.prompt_level if row.level is None else row.level, row.judge_detail
        version = row.policy_version if row.policy_version >= 0 else None  # the base model has none
        facts = [("sample", row.sample), *facts, ("reward", _signed(row.reward)), ("advantage", _signed(row.advantage))]
        facts += [("tokens", row.tokens), ("weights", version)]
    facts.append(("judge", row.judge))
    texts = [*((f"Earlier, {turn.role}", turn.content) for turn in row.turns), ("Prompt", row.prompt)]
    texts += [("Trace", row.trace), ("Answer", row.answer)] if row.form == Form.OK else [("Completion", row.completion)]
    texts += [("The judge's note", note)] if note else []
    return {
        "id": row.prompt_id,
        "stage": stage,
        "suite": suite,
        "level": "none" if level is None else str(level),
        "outcome": outcome(row),
        "fold": row.harmful is not False,  # of a prompt that may be harmful, the completion may be too
        "facts": [[name, str(value)] for name, value in facts if value not in (None, "")],
        "texts": [[name, _cut(text or "")] for name, text in texts],
    }


def _signed(value: float | None) -> str | None:
    return None if value is None else number(value, "+.2f")


def _cut(text: str) -> str:
    if len(text) <= MAX_TEXT:
        return text
    return f"{text[:MAX_TEXT]}\n[... {len(text) - MAX_TEXT} more characters are in the folder's parquet files]"


def as_json(content: Any) -> str:
    """JSON that is inert in a <script>: ASCII (no line separators, no lone surrogates), without `<`, `>` and `&`."""
    text = json.dumps(content, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
