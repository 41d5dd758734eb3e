"""`rapo suite`: a conversation, put into a suite file by hand."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from rapo_ray.errors import DataError, run_command

DESCRIPTION = """Append one conversation to a suite file, a JSON line with `messages`, to evaluate or train on as a
source of kind `file` with text_column=messages. The input is a list of messages, or an object that has one, as the body
of a request to a chat endpoint. System turns and an answer at the end are left out. The endpoint itself stores no
conversation: what is in a suite was put there by this command or an editor. Suites may hold harmful text."""
LABELS = {"harmful": True, "benign": False}


def main(arguments: list[str] | None = None, program: str = "python -m rapo_ray.data.suite") -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(program, description=DESCRIPTION)
    parser.add_argument("suite", type=Path, help="the suite's JSONL file, which may not exist yet")
    parser.add_argument("--label", choices=sorted(LABELS), required=True, help="if the last request is harmful")
    parser.add_argument("--level", type=int, choices=(1, 2, 3), help="depth of safety reasoning that it demands")
    parser.add_argument("--category", help="of the harm, or of the subject")
    parser.add_argument("--input", type=Path, help="JSON file of the conversation; by default standard input")
    return run_command(parser, arguments, _add)


def _add(options: argparse.Namespace) -> int:
    from rapo_ray import console
    from rapo_ray.atomic import write_text_atomically

    row, left_out = suite_row(_read(options.input), LABELS[options.label], options.level, options.category)
    lines = options.suite.read_text(encoding="utf-8") if options.suite.exists() else ""
    if lines and not lines.endswith("\n"):
        raise DataError(f"{options.suite}: its last line has no end; add one")
    if row["id"] in _ids(options.suite, lines):
        raise DataError(f"{options.suite}: holds this conversation already, as {row['id']}")
    write_text_atomically(options.suite, lines + json.dumps(row, ensure_ascii=False) + "\n")
    console.say(f"{options.suite}: {row['id']} added{f'; left out: {left_out}' if left_out else ''}")
    return 0


def suite_row(content: object, harmful: bool, level: int | None, category: str | None) -> tuple[dict[str, Any], str]:
    """The row of a conversation, and the parts of it that are left out; raises DataError for one that is unusable."""
    from rapo_ray.data.dialogue import dialogue_of
    from rapo_ray.data.rows import RowError
    from rapo_ray.seeds import digest_of

    messages = content.get("messages") if isinstance(content, dict) else content
    if not isinstance(messages, list) or not all(isinstance(turn, dict) for turn in messages):
        raise DataError("the input is no list of messages, nor an object with one: give the body of a chat request")
    turns = [turn for turn in messages if turn.get("role") not in ("system", "developer")]
    left_out = ["system turns"] if len(turns) < len(messages) else []
    if turns and turns[-1].get("role") == "assistant":
        turns.pop()
        left_out.append("the last answer")
    try:
        earlier, text = dialogue_of(turns)
    except RowError as error:
        raise DataError(f"the conversation is unusable: {error}") from None
    dialogue = [*({"role": turn.role, "content": turn.content} for turn in earlier), {"role": "user", "content": text}]
    row = {"id": digest_of(dialogue), "messages": dialogue, "harmful": harmful, "level": level, "category": category}
    return {name: value for name, value in row.items() if value is not None}, " and ".join(left_out)


def _read(path: Path | None) -> object:
    try:
        return json.loads(sys.stdin.read() if path is None else path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise DataError(f"{path or 'standard input'}: is no JSON; give a list of messages") from None


def _ids(suite: Path, text: str) -> set[object]:
    from rapo_ray.text.lines import split_lines

    try:
        return {json.loads(line)["id"] for line in split_lines(text) if line.strip()}
    except (ValueError, KeyError, TypeError):
        raise DataError(
            f"{suite}: is no suite of this command (a JSON object with an id a line); give another"
        ) from None


if __name__ == "__main__":
    sys.exit(main())
