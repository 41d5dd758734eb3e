"""Published suites of several turns: fixed dialogues, or scripts whose answers the evaluated model gives itself."""

import itertools
import json
from pathlib import Path

from rapo_ray.config.sources import Kind
from rapo_ray.data.dialogue import dialogue_of
from rapo_ray.data.files import read_text
from rapo_ray.data.rows import LoadedSource, Row, RowError, id_of, is_missing, label_of, read_rows, text_of
from rapo_ray.data.table import Columns, Table, ToPrompt
from rapo_ray.errors import DataError
from rapo_ray.text.lines import split_lines
from rapo_ray.types import Prompt

LINE = "dialogue"  # the column that a line of CoSafe, which has no columns, is read as


def load_cosafe(name: str, path: Path, max_bad_share: float) -> LoadedSource:
    """Read one category's file of CoSafe, a list of turns a line, all harmful by what they refer back to.

    A fixed dialogue each, of three user turns and two answers. Raises DataError.

    Source: ErxinYu/CoSafe-Dataset, CoSafe datasets/CATEGORY.json, no licence given. Yu et al., EMNLP 2024.
    """
    origin = f"{name} ({path})"
    try:
        lines = [line for line in split_lines(read_text(path)) if line.strip()]
    except OSError as error:
        raise DataError(f"{origin}: cannot be read ({error})") from None

    def to_prompt(number: int, row: Row) -> Prompt:
        turns, text = dialogue_of(_list_of(str(row[LINE])))
        identity = f"{name}/{path.stem}/{number}"
        return Prompt(identity, text, True, None, name, "test", path.stem, language="en", turns=turns)

    return read_rows(origin, [{LINE: line} for line in lines], to_prompt, max_bad_share)


def _list_of(text: str) -> list[object]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, list):
        raise RowError("the line is no list of turns")
    return value


def _safemtdata(table: Table, number: int, row: Row) -> Prompt:
    """SafeMTData, Attack_600: scripts of four to six user turns, made by ActorAttack to lead to harmful requests.

    Source: SafeMTData/SafeMTData, MIT. Ren et al., "Derail Yourself", arXiv 2410.10700.
    """
    queries = row.get("multi_turn_queries")
    if not isinstance(queries, list):
        raise RowError(f"multi_turn_queries is {type(queries).__name__}, not a list of texts")
    turns, text = dialogue_of(queries)
    identity = f"{table.name}/{id_of(number, row)}"
    return Prompt(identity, text, True, None, table.name, "test", label_of(row, "category"), language="en", turns=turns)


def _mhj(table: Table, number: int, row: Row) -> Prompt:
    """MHJ: jailbreaks over several turns by people, as scripts of their user turns; most answers are redacted.

    The system turn that some have is left out, since the system prompt of an evaluation is a setting. The tactic is the
    category.

    Source: ScaleAI/mhj (gated), harmbench_behaviors.csv, CC-BY-NC-4.0. Li et al., arXiv 2408.15221.
    """
    turns, text = dialogue_of([body for role, body in _mhj_turns(row) if role == "user"])
    identity = f"{table.name}/{number}"
    return Prompt(identity, text, True, None, table.name, "test", label_of(row, "tactic"), language="en", turns=turns)


def _mhj_turns(row: Row) -> list[tuple[object, object]]:
    turns: list[tuple[object, object]] = []
    for number in itertools.count():
        column = f"message_{number}"
        if is_missing(row.get(column)):
            return turns
        try:
            message = json.loads(text_of(row, column))
            turns.append((message["role"], message["body"]))
        except (ValueError, KeyError, TypeError, RecursionError):
            raise RowError(f"{column} is no JSON object with role and body") from None
    return turns


MULTI_TURN: dict[Kind, tuple[Columns, ToPrompt]] = {
    "safemtdata": (["multi_turn_queries", "category"], _safemtdata),
    "mhj": (["message_0", "tactic"], _mhj),
}
