"""Demonstrations: read from a file, written to one, and tokenised as the policy will see them."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rapo_ray.atomic import write_text_atomically
from rapo_ray.data.dialogue import cell_of, request_of
from rapo_ray.data.files import read_table
from rapo_ray.data.quickstart_set import Demonstration, load_demonstrations
from rapo_ray.data.rows import Row, RowError, harmful_of, id_of, level_of, require_columns, text_of
from rapo_ray.errors import DataError, named
from rapo_ray.models.chat import ChatFormat, parse_completion
from rapo_ray.types import Form, Prompt, Sequence


def read_demonstrations(path: Path | None) -> list[Demonstration]:
    """The packaged demonstrations, or those of a file; raises DataError that names the malformed ones."""
    if path is None:
        return list(load_demonstrations())
    rows = read_table(path)
    if not rows:
        raise DataError(f"{path}: holds no rows; give a file with at least one")
    require_columns(str(path), rows, ["text", "harmful", "completion"])
    demonstrations = []
    bad = []
    for number, row in enumerate(rows, start=1):
        try:
            demonstrations.append(_demonstration(path, number, row))
        except RowError as error:
            bad.append(f"row {number}: {error}")
    if bad:
        raise DataError(f"{path}: {named(bad)}; fix or remove them")
    return demonstrations


def _demonstration(path: Path, number: int, row: Row) -> Demonstration:
    turns, text = request_of(row, "text")
    identity = f"demonstration/{id_of(number, row)}"
    prompt = Prompt(identity, text, harmful_of(row), level_of(row), str(path), "sft", turns=turns)
    if prompt.is_script:
        raise RowError("text is a script, whose earlier turns have no answers")
    completion = text_of(row, "completion")
    form = parse_completion(completion, truncated=False).form
    if form is not Form.OK:
        raise RowError(f"the completion is not `<think>` trace `</think>` answer ({form})")
    return Demonstration(prompt, completion)


def write_demonstrations(demonstrations: Iterable[Demonstration], path: Path) -> None:
    """Atomically write demonstrations as JSONL that `read_demonstrations` reads back."""
    lines = []
    for demonstration in demonstrations:
        prompt = demonstration.prompt
        row = {"id": prompt.id, "text": cell_of(prompt), "harmful": prompt.harmful, "level": prompt.level}
        lines.append(json.dumps({**row, "completion": demonstration.completion}, ensure_ascii=False) + "\n")
    write_text_atomically(path, "".join(lines))


def tokenize(
    demonstrations: Iterable[Demonstration], tokenizer: Any, system_prompt: str | None, chat: ChatFormat
) -> list[Sequence]:
    """Sequences of chat prompt, completion and end of turn, token for token as the model sees and writes them."""
    assert chat.end_id is not None, "only the plain format, which no tokenizer was read for, has no end"
    sequences = []
    for demonstration in demonstrations:
        turns = chat.turns(system_prompt, demonstration.prompt.text, demonstration.prompt.turns)
        prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False, **chat.on)
        plain = parse_completion(demonstration.completion, truncated=False)
        completion = tokenizer.encode(chat.compose(plain.thinking, plain.answer), add_special_tokens=False)
        sequences.append(Sequence(tuple(prompt), (*completion, chat.end_id), 0.0, ()))
    return sequences
