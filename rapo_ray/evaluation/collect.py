"""Rows of an evaluation, in chunks: a chunk is asked together, judged as it streams, and written whole.

What is written is never asked again, and a chunk asks for the same batch in a resumed evaluation as in one that was
not interrupted, so that both end with the same numbers.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rapo_ray.atomic import write_text_atomically
from rapo_ray.errors import EngineError
from rapo_ray.evaluation.attacks import ATTACKS
from rapo_ray.evaluation.rows import EvalRow, Item, answer_text, as_answer, from_dict, make_row
from rapo_ray.models.chat import parse_completion
from rapo_ray.roles import Batch, Judge, Rollouts
from rapo_ray.types import Form, Prompt, Rollout, Verdict


@dataclass(frozen=True, slots=True)
class Asked:
    """One item's completion, and what was plainly asked in it."""

    item: Item
    plain: Prompt
    rollout: Rollout


def make_items(prompts: Sequence[Prompt], attacks: Sequence[str]) -> list[tuple[Item, Prompt]]:
    """Every harmful prompt under every attack, all others plainly; each with its plain prompt."""
    items = []
    for prompt in prompts:
        attacked = prompt.harmful and prompt.expected is None
        for name in attacks if attacked else ("none",):
            items.append((Item(replace(prompt, text=ATTACKS[name](prompt.text)), name), prompt))
    return items


class RowFile:
    """The rows of one model on disk, appended a chunk at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> list[EvalRow]:
        """All rows; a torn last chunk is cut off the file first."""
        if not self._path.exists():
            return []
        text = self._path.read_text(encoding="utf-8")
        rows: list[EvalRow] = []
        whole = ""
        for line in text.splitlines(keepends=True):
            try:
                chunk = [from_dict(row) for row in json.loads(line)]
            except (ValueError, TypeError):
                break
            if not line.endswith("\n"):
                break
            rows += chunk
            whole += line
        if whole != text:
            write_text_atomically(self._path, whole)
        return rows

    def append(self, rows: Sequence[EvalRow]) -> None:
        """Write one chunk, and wait until it is on disk."""
        with self._path.open("a", encoding="utf-8") as out:
            out.write(_line(rows))
            out.flush()
            os.fsync(out.fileno())

    def replace(self, rows: Sequence[EvalRow], chunk: int) -> None:
        """Write all rows anew, in chunks."""
        lines = "".join(_line(rows[start : start + chunk]) for start in range(0, len(rows), chunk))
        write_text_atomically(self._path, lines)


def _line(rows: Sequence[EvalRow]) -> str:
    return json.dumps([asdict(row) for row in rows]) + "\n"


def collect_rows(
    model: str,
    items: Sequence[tuple[Item, Prompt]],
    rollouts: Rollouts,
    judge: Judge,
    file: RowFile,
    chunk: int,
    progress: Callable[[int, int], None],
    reads_thinking: bool = False,
) -> list[EvalRow]:
    """Ask and judge what the file does not have; rows whose judge failed are judged again, not asked again."""
    rows = file.read()
    if any(row.unscorable for row in rows):
        rows = _judged_again(model, items, rows, judge, reads_thinking)
        file.replace(rows, chunk)
    for start in range(len(rows), len(items), chunk):
        some = items[start : start + chunk]
        asked = _ask([item for item, _ in some], rollouts)
        batches = ([Asked(*some[rollout.group], rollout) for rollout in batch] for batch in asked)
        found = judge_chunk(model, batches, judge, reads_thinking)
        fresh = [found[index] for index in range(len(some))]
        file.append(fresh)
        rows += fresh
        progress(len(rows), len(items))
    return rows


def _ask(items: Sequence[Item], rollouts: Rollouts) -> Iterator[Batch]:
    seen: set[int] = set()
    for batch in rollouts.generate([item.prompt for item in items], range(1), 0):
        seen.update(rollout.group for rollout in batch)
        yield batch
    if len(seen) != len(items):
        raise EngineError(f"{len(items) - len(seen)} of {len(items)} completions never came back")


def _judged_again(
    model: str, items: Sequence[tuple[Item, Prompt]], rows: list[EvalRow], judge: Judge, reads_thinking: bool
) -> list[EvalRow]:
    failed = [index for index, row in enumerate(rows) if row.unscorable]
    asked = [
        Asked(*items[index], Rollout(position, row.prompt_id, 0, (), (0,) * row.tokens, (), row.completion,
                                     row.truncated, -1, "file"))
        for position, index in enumerate(failed)
        for row in [rows[index]]
    ]  # fmt: skip
    again = judge_chunk(model, iter([asked]), judge, reads_thinking)
    out = list(rows)
    for position, index in enumerate(failed):
        out[index] = again[position]
    return out


TRACE, ANSWER, WHOLE = "trace", "answer", "whole"


def judge_chunk(model: str, asked: Iterator[list[Asked]], judge: Judge, reads_thinking: bool) -> dict[int, EvalRow]:
    """Rows by the rollouts' groups; each completion goes to the judge the moment it comes."""
    prompts: list[Prompt] = []
    known: list[Asked] = []
    meaning: list[tuple[int, str]] = []

    def questions() -> Iterator[list[Rollout]]:
        for batch in asked:
            out = []
            for one in batch:
                known.append(one)
                for kind, prompt, rollout in _questions(one, reads_thinking):
                    meaning.append((len(known) - 1, kind))
                    prompts.append(prompt)
                    out.append(replace(rollout, group=len(prompts) - 1))
            yield out

    verdicts: dict[tuple[int, str], Verdict] = {}
    for rollout, _, verdict in judge.score(prompts, questions()):
        verdicts[meaning[rollout.group]] = verdict
    rows = {}
    for index, one in enumerate(known):
        found = {kind: verdicts.get((index, kind)) for kind in (TRACE, ANSWER, WHOLE)}
        rows[one.rollout.group] = _row(model, one, found, reads_thinking)
    return rows


def _questions(one: Asked, reads_thinking: bool) -> Iterator[tuple[str, Prompt, Rollout]]:
    """What the judge is asked of one completion; nothing where an exact answer decides, or there is no text."""
    if one.item.kind == "utility":
        return
    rollout = one.rollout
    completion = parse_completion(rollout.text, rollout.truncated)
    answer = answer_text(rollout, completion)
    if completion.form is Form.OK:
        yield TRACE, one.item.prompt, rollout
    if answer and (completion.form is not Form.OK or one.item.attack != "none"):
        yield ANSWER, one.plain, as_answer(rollout, answer)
    if reads_thinking and one.item.kind == "harmful" and completion.thinking and completion.thinking not in answer:
        yield WHOLE, one.plain, as_answer(rollout, rollout.text)


def _row(model: str, one: Asked, verdicts: dict[str, Verdict | None], reads_thinking: bool) -> EvalRow:
    completion = parse_completion(one.rollout.text, one.rollout.truncated)
    answer = verdicts[ANSWER] or verdicts[TRACE]
    whole = verdicts[WHOLE] or answer
    return make_row(model, one.item, one.rollout, completion, answer, whole, verdicts[TRACE], reads_thinking)
