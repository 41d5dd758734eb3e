"""Rows of an evaluation, in chunks: a chunk is sampled together, judged as it streams, and written whole.

Rows on disk belong to an item by its content, so that a prompt that was changed, moved or put in between gets no other
prompt's row. They are never sampled again, and a chunk is the same batch in a resumed evaluation as in one that was not
interrupted, so that both end with the same numbers.
"""

import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from rapo_ray.atomic import write_text_atomically
from rapo_ray.attacks.chain import parse_chain
from rapo_ray.errors import EngineError
from rapo_ray.evaluation.rows import EvalRow, Item, as_answer, as_answered, from_dict, make_row
from rapo_ray.models.chat import PLAIN, ChatFormat, parse_completion
from rapo_ray.roles import Judge, Responder, Responses
from rapo_ray.seeds import derive_seed
from rapo_ray.text.lines import whole_lines
from rapo_ray.types import Form, Prompt, Response, Verdict


def make_items(prompts: Sequence[Prompt], attacks: Sequence[str], seed: int = 0) -> list[Item]:
    """Every harmful prompt under every attack, all others plainly; an attack's frames are seeded by the prompt's text.

    Raises ConfigError for a name that is no chain of families.
    """
    for name in attacks:
        parse_chain(name)
    return [
        Item(prompt, name, derive_seed(seed, prompt.text))
        for prompt in prompts
        for name in (attacks if prompt.harmful and prompt.expected is None else ("none",))
    ]


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
        for line in whole_lines(text):
            try:
                chunk = [from_dict(row) for row in json.loads(line)]
            except (ValueError, TypeError):
                break
            rows += chunk
            whole += f"{line}\n"
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
    items: Sequence[Item],
    responder: Responder,
    judge: Judge,
    file: RowFile,
    chunk: int,
    progress: Callable[[int, int], None],
    reads_thinking: bool = False,
    chat: ChatFormat = PLAIN,
) -> list[EvalRow]:
    """Sample and judge the rows that the file lacks; rows whose judge failed are judged again, not sampled again.

    Rows of items that there are no more leave the file.
    """
    stored = file.read()
    rows = matched(items, [row for row in stored if not row.failed])
    rows |= _rejudged(model, items, rows, judge, reads_thinking, chat)
    if list(rows.values()) != stored:
        file.replace(list(rows.values()), chunk)
    missing = [place for place in range(len(items)) if place not in rows]
    for start in range(0, len(missing), chunk):
        places = missing[start : start + chunk]
        some = [items[place] for place in places]
        answered = ([(some[response.group], response) for response in batch] for batch in _respond(some, responder))
        judged = judge_chunk(model, answered, judge, reads_thinking, chat)
        fresh = [judged[index] for index in range(len(some))]
        file.append(fresh)
        rows |= dict(zip(places, fresh, strict=True))
        progress(len(rows), len(items))
    ordered = [rows[place] for place in range(len(items))]
    if list(rows) != sorted(rows):
        file.replace(ordered, chunk)
    return ordered


def matched(items: Sequence[Item], rows: Sequence[EvalRow]) -> dict[int, EvalRow]:
    """The rows that items have already, by the items' places and under their present ids.

    A row of a version that stored no digest belongs to the item of the same id, attack and text.
    """
    by_content: dict[object, deque[EvalRow]] = {}
    for row in rows:
        by_content.setdefault(row.content or (row.key, row.prompt), deque()).append(row)
    places = {}
    for place, item in enumerate(items):
        prompt, content = item.plain, item.content
        for key in (content, ((prompt.source, item.attack, prompt.id), item.prompt.text)):
            if left := by_content.get(key):
                places[place] = replace(
                    left.popleft(), suite=prompt.source, prompt_id=prompt.id, category=prompt.category, content=content,
                    style=prompt.style, language=prompt.language,
                )  # fmt: skip
                break
    return places


def _respond(items: Sequence[Item], responder: Responder) -> Iterator[Responses]:
    seen: set[int] = set()
    for batch in responder.respond([item.prompt for item in items]):
        seen.update(response.group for response in batch)
        yield batch
    if len(seen) != len(items):
        raise EngineError(f"{len(items) - len(seen)} of {len(items)} completions never came back")


def _rejudged(
    model: str, items: Sequence[Item], rows: Mapping[int, EvalRow], judge: Judge, reads_thinking: bool, chat: ChatFormat
) -> dict[int, EvalRow]:
    """New rows in the places of those whose judge failed."""
    failed = [place for place, row in rows.items() if row.unscorable]
    if not failed:
        return {}
    answered = [(items[place], _response(group, row)) for group, place in enumerate(failed) for row in [rows[place]]]
    judged = judge_chunk(model, iter([answered]), judge, reads_thinking, chat)
    return {place: judged[group] for group, place in enumerate(failed)}


def _response(group: int, row: EvalRow) -> Response:
    turns = row.turns or None
    return Response(group, 0, row.prompt_id, row.completion, row.truncated, row.tokens, row.reply, turns=turns)


TRACE, ANSWER, WHOLE = "trace", "answer", "whole"


def judge_chunk(
    model: str, answered: Iterator[list[tuple[Item, Response]]], judge: Judge, reads_thinking: bool, chat: ChatFormat
) -> dict[int, EvalRow]:
    """Rows by the group of their response; each response goes to the judge the moment it arrives."""
    prompts: list[Prompt] = []
    arrived: list[tuple[Item, Response]] = []
    meaning: list[tuple[int, str]] = []  # of each question: the response, and the text that is judged

    def questions() -> Iterator[list[Response]]:
        for batch in answered:
            out = []
            for item, response in batch:
                arrived.append((item, response))
                for kind, prompt, text in _questions(item, response, reads_thinking, chat):
                    meaning.append((len(arrived) - 1, kind))
                    prompts.append(prompt)
                    out.append(replace(text, group=len(prompts) - 1))
            yield out

    verdicts: dict[tuple[int, str], Verdict] = {}
    for response, _, verdict in judge.score(prompts, questions()):
        verdicts[meaning[response.group]] = verdict
    rows = {}
    for index, (item, response) in enumerate(arrived):
        trace = verdicts.get((index, TRACE))
        answer = verdicts.get((index, ANSWER)) or trace
        whole = verdicts.get((index, WHOLE)) or answer
        rows[response.group] = make_row(model, item, response, answer, whole, trace, reads_thinking, chat)
    return rows


def _questions(
    item: Item, response: Response, reads_thinking: bool, chat: ChatFormat
) -> Iterator[tuple[str, Prompt, Response]]:
    """The texts of one response to judge; none where an exact answer decides, or there is no text."""
    if item.kind == "utility" or response.reply == "failed":
        return
    completion = parse_completion(response.text, response.truncated, chat)
    answer = chat.answer_of(response.text)
    if completion.form is Form.OK:
        yield TRACE, as_answered(item.prompt, response), response
    judged = completion.form is Form.OK and item.attack == "none"
    if answer and not judged and response.reply != "refused":  # a field of its own needs no judge
        yield ANSWER, as_answered(item.plain, response), as_answer(response, answer, chat)
    if reads_thinking and item.kind == "harmful" and completion.thinking and completion.thinking not in answer:
        yield WHOLE, as_answered(item.plain, response), as_answer(response, response.text, chat)
