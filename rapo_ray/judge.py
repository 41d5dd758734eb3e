"""`python -m rapo_ray.judge`: judge a file of completions offline, streamed and resumable."""

import argparse
import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rapo_ray.errors import run_command

if TYPE_CHECKING:
    from rapo_ray.judging.local import JudgeOne
    from rapo_ray.models.chat import ChatFormat
    from rapo_ray.types import Prompt

DESCRIPTION = """Judge completions with the judge of a recipe. The input has a JSON object a line: `prompt`, `harmful`
and `completion`, and where known `id` and `level`. A completion is `<think>` trace `</think>` answer, or has the marks
in model.thinking.open and close. A verdict a line is appended to the output as it comes; the same command goes on where
it stopped."""
AT_ONCE = 256  # completions that a model judge works on


def main(arguments: list[str] | None = None, program: str = "python -m rapo_ray.judge") -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(program, description=DESCRIPTION)
    parser.add_argument("--config", default="quickstart", help="a shipped recipe's name, or a YAML file")
    parser.add_argument("--input", type=Path, required=True, help="JSONL of completions")
    parser.add_argument("--output", type=Path, help="JSONL of verdicts; by default beside the input")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="dotted settings laid over the recipe")
    return run_command(parser, arguments, _judge)


def _judge(options: argparse.Namespace) -> int:
    from rapo_ray import console
    from rapo_ray.config.load import load_config
    from rapo_ray.judging.local import local_judge
    from rapo_ray.models.chat_template import stated_format
    from rapo_ray.report import terminal
    from rapo_ray.storage.reader import read_verdicts

    config = load_config(options.config, options.overrides)
    output = options.output or options.input.with_suffix(".verdicts.jsonl")
    rows = read_completions(options.input)
    done = read_verdicts(output)
    left = [(prompt, completion) for prompt, completion in rows if prompt.id not in done]
    console.say(f"{len(rows)} completions, {len(rows) - len(left)} judged already")
    if left:
        asyncio.run(_judge_all(local_judge(config), left, stated_format(config.model.thinking), output))
    console.show(terminal.verdict_table(list(read_verdicts(output).values())))
    console.say(f"verdicts: {output}")
    return 0


def read_completions(path: Path) -> list[tuple["Prompt", str]]:
    """Read the prompts and completions of the input; raises DataError for the first unusable row."""
    from rapo_ray.data.files import read_table
    from rapo_ray.data.rows import RowError, harmful_of, id_of, level_of, text_of
    from rapo_ray.errors import DataError
    from rapo_ray.types import Prompt

    rows: dict[str, tuple[Prompt, str]] = {}
    for number, row in enumerate(read_table(path), start=1):
        try:
            completion = row.get("completion")
            if not isinstance(completion, str):
                raise RowError(f"completion is {type(completion).__name__}, not text")
            identity = id_of(number, row)
            prompt = Prompt(identity, text_of(row, "prompt"), harmful_of(row), level_of(row), path.stem, "judge")
        except RowError as error:
            raise DataError(f"{path}: row {number}: {error}; fix or remove it") from None
        if identity in rows:
            raise DataError(f"{path}: row {number}: duplicate id {identity!r}")
        rows[identity] = prompt, completion
    if not rows:
        raise DataError(f"{path}: holds no rows; give a file with at least one")
    return list(rows.values())


async def _judge_all(judge_one: "JudgeOne", rows: list[tuple["Prompt", str]], chat: "ChatFormat", output: Path) -> None:
    from rapo_ray import console
    from rapo_ray.models.chat import parse_completion
    from rapo_ray.storage.json_records import to_json
    from rapo_ray.storage.records import verdict_row

    slots = asyncio.Semaphore(AT_ONCE)
    with output.open("a", encoding="utf-8") as out, console.progress("judging") as progress:
        out.write("\n" if output.stat().st_size and not output.read_bytes().endswith(b"\n") else "")

        async def one(prompt: "Prompt", completion: str) -> None:
            async with slots:
                verdict = await judge_one(prompt, parse_completion(completion, truncated=False, chat=chat))
            out.write(json.dumps(to_json(verdict_row(prompt, verdict))) + "\n")
            out.flush()

        tasks = [asyncio.ensure_future(one(*row)) for row in rows]
        for count, task in enumerate(asyncio.as_completed(tasks), start=1):
            await task
            progress.judged(count, len(rows))


if __name__ == "__main__":
    sys.exit(main())
