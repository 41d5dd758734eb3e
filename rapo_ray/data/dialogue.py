"""Dialogues in the cells of tables: a list of turns in a usual form becomes earlier turns and the last request.

A list of objects is a dialogue of user and assistant in alternation that ends with the user; a list of texts is a
script, the user's turns alone. In a column with a dialogue's name, text is the JSON of such a list.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rapo_ray.data.files import DIALOGUE_FIELDS
from rapo_ray.data.rows import MAX_CHARACTERS, Row, RowError, text_of
from rapo_ray.models.chat import PLAIN
from rapo_ray.types import Prompt, Role, Turn

COLUMNS = ("messages", "conversation", "conversations", "multi_turn_queries")  # never a plain text
ROLES: Mapping[str, Role] = {"user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant"}

Request = tuple[tuple[Turn, ...], str]


def request_of(row: Row, column: str) -> Request:
    """Earlier turns and the text of a cell, a text or a list of turns; raises RowError where it is neither."""
    value = row.get(column)
    if isinstance(value, str) and column in COLUMNS:
        value = _parsed(text_of(row, column), column)
    if isinstance(value, list):
        return dialogue_of(value)
    return (), text_of(row, column)


def dialogue_of(items: Sequence[object]) -> Request:
    """Earlier turns and the last request of a list of turns; raises RowError, which names the first bad turn."""
    if not items:
        raise RowError("the dialogue has no turns")
    if all(isinstance(item, str) for item in items):
        turns = [Turn("user", _text(number, item)) for number, item in enumerate(items, start=1)]
    else:
        turns = [_turn(number, item) for number, item in enumerate(items, start=1)]
        _check_order(turns)
    length = sum(len(turn.content) for turn in turns)
    if length > MAX_CHARACTERS:
        raise RowError(f"the dialogue has {length:,} characters, over {MAX_CHARACTERS:,}")
    return tuple(turns[:-1]), turns[-1].content


def messages_of(prompt: Prompt) -> list[dict[str, str]]:
    """A prompt's turns with its request, as `dialogue_of` reads them; not for a script."""
    return [{"role": turn.role, "content": turn.content} for turn in (*prompt.turns, Turn("user", prompt.text))]


def cell_of(prompt: Prompt) -> Any:
    """A prompt's request as a cell that `request_of` reads back."""
    if prompt.is_script:
        return [turn.content for turn in (*prompt.turns, Turn("user", prompt.text))]
    return messages_of(prompt) if prompt.turns else prompt.text


def _parsed(text: str, column: str) -> list[Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, list):
        raise RowError(f"{column} is neither a list of turns nor the JSON of one")
    return value


def _turn(number: int, item: object) -> Turn:
    if not isinstance(item, Mapping):
        raise RowError(f"turn {number} is {type(item).__name__}, not an object with role and content")
    names = next((names for names in DIALOGUE_FIELDS if set(names) <= set(item)), None)
    if names is None:
        raise RowError(f"turn {number} has no {' and '.join(DIALOGUE_FIELDS[0])}, only {', '.join(map(str, item))}")
    role, content = (item[name] for name in names)
    if not isinstance(role, str) or role not in ROLES:
        hint = ": the system prompt is a setting, model.system_prompt" if role == "system" else ""
        raise RowError(f"turn {number} has the role {str(role)[:40]!r}, not user or assistant{hint}")
    text = _text(number, content)
    return Turn(ROLES[role], text if ROLES[role] == "user" else _answer(number, text))


def _text(number: int, content: object) -> str:
    try:
        return text_of({"content": content}, "content")
    except RowError as error:
        raise RowError(f"turn {number}: {error}") from None


def _answer(number: int, text: str) -> str:
    """An earlier answer without the thinking before it, which chat templates leave out too."""
    body = text.lstrip()
    if not body.startswith(PLAIN.open_mark):
        return text
    answer = body.partition(PLAIN.close_mark)[2].strip()
    if not answer:
        raise RowError(f"turn {number} has thinking and no answer")
    return answer


def _check_order(turns: Sequence[Turn]) -> None:
    for number, turn in enumerate(turns, start=1):
        if turn.role != ("user" if number % 2 else "assistant"):
            who = "a dialogue begins with the user" if number == 1 else f"turn {number - 1} is the {turn.role}'s too"
            raise RowError(f"turn {number} is the {turn.role}'s, but {who}")
    if turns[-1].role == "assistant":
        raise RowError("the dialogue ends with the assistant: leave out the last answer, or ask for another one")
