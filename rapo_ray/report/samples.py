"""Which completions a report shows, and how they are written into it: bounded, seeded, and every outcome among them."""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rapo_ray.report.evaluation_section import title
from rapo_ray.report.parts import number
from rapo_ray.seeds import derive_seed
from rapo_ray.storage.reader import Evidence, Line, reading
from rapo_ray.types import Form, Status

MAX_SAMPLES = 3000
MAX_TEXT = 6000  # characters of a prompt, trace or answer; a longer one says how much of it is left out

_DECIDING = ("status", "harmful", "general", "refused", "outcome", "model", "suite", "attack", "prompt_id")


@dataclass(frozen=True, slots=True)
class Source:
    """A file of rows; `stage` is what its rows are found by, `kind` what they are dealt by beside their outcome."""

    path: Path
    stage: str
    kind: str
    repeats: bool = False  # may hold rows of an earlier file


@dataclass(frozen=True, slots=True)
class Samples:
    """The shown rows, and how many there are."""

    rows: list[Line]
    of: int


def sources(evidence: Evidence) -> list[Source]:
    """The files of rows, evaluations first, then held-out prompts, then rounds."""
    of_rounds = evidence.evaluations_of_rounds
    evaluations = [*reversed(of_rounds), *(one for one in evidence.evaluations if one not in of_rounds)]
    found = [Source(one.rows, title(one), title(one), one in of_rounds) for one in evaluations if one.rows is not None]
    for stage in evidence.heldout:
        name = f"Held-out, {stage}"
        found.append(Source(evidence.path / "heldout" / f"{stage}.parquet", name, name))
    return found + [Source(path, f"Round {index}", "rounds") for index, path in evidence.rounds.items()]


def choose(evidence: Evidence, limit: int = MAX_SAMPLES) -> Samples:
    """At most `limit` rows, dealt evenly over kinds of source and outcomes; the same folder gives the same ones."""
    files = sources(evidence)
    strata = _strata(files)
    seed = evidence.config.seed if evidence.config else 0
    taken: dict[int, list[int]] = {}
    for name, count in quotas({name: len(places) for name, places in strata.items()}, limit).items():
        for file, row in random.Random(derive_seed(seed, "report", *name)).sample(strata[name], count):
            taken.setdefault(file, []).append(row)
    rows = [row for file in sorted(taken) for row in _read(files[file], sorted(taken[file]))]
    return Samples(rows, sum(map(len, strata.values())))


def _strata(files: Sequence[Source]) -> dict[tuple[str, str], list[tuple[int, int]]]:
    """Places (file, row) of all rows by kind and outcome; an evaluation's row that an earlier file had is left out."""
    import pyarrow.parquet as pq

    found: dict[tuple[str, str], list[tuple[int, int]]] = {}
    seen: set[tuple[str, ...]] = set()
    for file, source in enumerate(files):
        with reading(source.path):
            rows = pq.read_table(source.path, columns=_present(source.path)).to_pylist()
        for index, row in enumerate(rows):
            if "outcome" in row:  # the rows from before the rounds are in the file of each later evaluation
                key = (row["model"], row["suite"], row["attack"], row["prompt_id"])
                if source.repeats and key in seen:
                    continue
                seen.add(key)
            found.setdefault((source.kind, outcome(row)), []).append((file, index))
    return found


def _present(path: Path) -> list[str]:
    import pyarrow.parquet as pq

    return [name for name in pq.read_schema(path).names if name in _DECIDING]


def quotas(sizes: Mapping[tuple[str, str], int], limit: int) -> dict[tuple[str, str], int]:
    """How many to take of each: all of the small ones, the rest shared evenly."""
    left, found = limit, {}
    ranked = sorted(sizes.items(), key=lambda item: (item[1], item[0]))
    for position, (name, size) in enumerate(ranked):
        found[name] = min(size, left // (len(ranked) - position))
        left -= found[name]
    return found


def outcome(row: Line) -> str:
    """What came of a row: an evaluation says it itself, of others the verdict tells."""
    if "outcome" in row:
        return str(row["outcome"])
    if row["status"] == Status.MALFORMED.value:
        return "malformed"
    if row["general"] is None:
        return "unscorable"
    if row["harmful"]:
        return "refused" if row["general"] == 1 else "complied"
    if row["general"] == 1:
        return "answered"
    return "over_refused" if row["refused"] else "unhelpful"


def _read(source: Source, indexes: Sequence[int]) -> list[Line]:
    import pyarrow.parquet as pq

    with reading(source.path):
        rows = pq.read_table(source.path).take(list(indexes)).to_pylist()
        return [_shown(row, source.stage) for row in rows]


def _shown(row: Line, stage: str) -> Line:
    level = row["level"] if row["level"] is not None else row.get("prompt_level")
    whole = row["form"] == Form.OK.value
    texts = [["Prompt", row["prompt"]]]
    texts += [["Trace", row["trace"]], ["Answer", row["answer"]]] if whole else [["Completion", row["completion"]]]
    if row.get("detail") or row.get("judge_detail"):
        texts.append(["The judge's note", row.get("detail") or row.get("judge_detail")])
    return {
        "id": row["prompt_id"],
        "stage": f"{stage}: {row['model']}" if "model" in row else stage,
        "suite": row.get("suite") or row.get("source") or "",
        "level": "none" if level is None else str(level),
        "outcome": outcome(row),
        "fold": row["harmful"] is not False,  # of a prompt that may be harmful, the completion may be too
        "facts": _verdict(row),
        "texts": [[name, _cut(text or "")] for name, text in texts],
    }


def _verdict(row: Line) -> list[list[str]]:
    facts: list[tuple[str, Any]] = [
        ("attack", row.get("attack") if row.get("attack") != "none" else None),
        ("category", row.get("category")),
        ("sample", row.get("sample")),
        ("form", row["form"]),
        ("verdict", row["status"]),
        ("case", row["case"]),
        ("sentences", row["sentences"]),
        ("R", _signed(row["risk"])),
        ("G", _signed(row["general"])),
        ("reward", _signed(row.get("reward"))),
        ("advantage", _signed(row.get("advantage"))),
        ("tokens", row["tokens"]),
        ("weights", version if (version := row.get("policy_version", -1)) >= 0 else None),  # base has no version
        ("judge", row["judge"]),
    ]
    return [[name, str(value)] for name, value in facts if value not in (None, "")]


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
