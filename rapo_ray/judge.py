"""`python -m rapo_ray.judge`: judge a file of completions offline, streamed and resumable."""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rapo_ray.errors import run_command

if TYPE_CHECKING:
    from rapo_ray.config import RunConfig
    from rapo_ray.data.labelled import Labelled, LabelledSet
    from rapo_ray.judging.local import JudgeOne
    from rapo_ray.judging.parts import Part
    from rapo_ray.judging.validation import Comparison
    from rapo_ray.models.chat import ChatFormat
    from rapo_ray.storage.records import VerdictRow
    from rapo_ray.types import Prompt

DESCRIPTION = """Judge completions with the judge of a recipe. The input has a JSON object a line: `prompt`, `harmful`
and `completion`, and where known `id` and `level`. A prompt is a text, or a dialogue as a list of turns with role and
content, of which the last is judged. A completion is `<think>` trace `</think>` answer, or has the marks
in model.thinking.open and close. A verdict a line is appended to the output as it comes; the same command goes on where
it stopped. Verdicts on a prompt or a completion that has changed since, or of another judge, are made anew. With
--labelled the input has labels of people, as WildGuardTest and XSTest publish them, or in the columns `refused` and
`answer_harmful`: the judge of answers is held against them, and what comes of it is written beside the verdicts."""
AT_ONCE = 256  # completions that a model judge works on


def main(arguments: list[str] | None = None, program: str = "python -m rapo_ray.judge") -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(program, description=DESCRIPTION)
    parser.add_argument("--config", default="quickstart", help="a shipped recipe's name, or a YAML file")
    parser.add_argument("--input", type=Path, required=True, help="JSONL of completions")
    parser.add_argument("--output", type=Path, help="JSONL of verdicts; by default beside the input")
    parser.add_argument("--labelled", action="store_true", help="compare the judge with the labels of people")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="dotted settings laid over the recipe")
    return run_command(parser, arguments, _judge)


@dataclass(frozen=True, slots=True)
class Judged:
    """A completion to judge; the key is a digest of it, its prompt and its judge."""

    key: str
    prompt: "Prompt"
    completion: str


def _judge(options: argparse.Namespace) -> int:
    from rapo_ray import console
    from rapo_ray.config.load import load_config
    from rapo_ray.data.labelled import read_labelled
    from rapo_ray.judging.local import local_judge
    from rapo_ray.judging.parts import PARTS
    from rapo_ray.judging.validation import compare
    from rapo_ray.models.chat_template import stated_format
    from rapo_ray.models.resolve import judge_models
    from rapo_ray.pipeline.identity import judge_identities
    from rapo_ray.report import terminal
    from rapo_ray.storage.reader import read_verdicts

    config = load_config(options.config, options.overrides)
    chat = stated_format(config.model.thinking)
    labelled = answers_of(read_labelled(options.input), chat) if options.labelled else None
    parts: tuple[Part, ...] = ("general",) if labelled else PARTS
    output = options.output or options.input.with_suffix(".verdicts.jsonl")
    completions = as_completions(labelled.rows, chat) if labelled else read_completions(options.input)
    identities = judge_identities(config, judge_models(config))
    rows = keyed(config, completions, identities, parts)
    reward: Literal["total", "general"] = "general" if labelled else "total"
    before = list(read_verdicts(output, reward).values())
    usable = still_right(rows, before)
    judged = {row.id for row in usable}
    left = [row for row in rows if row.prompt.id not in judged]
    console.say(f"{len(rows)} completions, {len(usable)} judged already")
    keys = {row.key for row in usable}
    if stale := sum(row.key not in keys for row in before):
        console.say(f"{output}: {stale} verdicts on other completions, or of another judge, are replaced")
    write_verdicts(usable, output)
    if left:
        asyncio.run(_judge_all(local_judge(config, parts), left, chat, output))
    verdicts = read_verdicts(output, reward)
    console.show(terminal.verdict_table(list(verdicts.values())))
    console.say(f"verdicts: {output}")
    if labelled:
        comparisons = compare(labelled.rows, verdicts)
        console.show(terminal.comparison_table(comparisons))
        place = output.with_suffix(".labels.json")
        write_comparisons(comparisons, labelled.unlabelled, identities, place)
        console.say(f"judge and people: {place} ({labelled.unlabelled} answers without a label are left out)")
    return 0


def answers_of(labelled: "LabelledSet", chat: "ChatFormat") -> "LabelledSet":
    """The labelled answers without the thinking before them, which no label is about."""
    return replace(
        labelled, rows=tuple(replace(one, completion=chat.answer_of(one.completion)) for one in labelled.rows)
    )


def as_completions(labelled: "Sequence[Labelled]", chat: "ChatFormat") -> list[tuple["Prompt", str]]:
    """The prompts and their answers, each behind a thinking that says nothing."""
    return [(one.prompt, chat.compose("-", chat.inert(one.completion))) for one in labelled]


def write_comparisons(comparisons: "Sequence[Comparison]", unlabelled: int, judges: dict[str, str], path: Path) -> None:
    """Write a judge's scores against the labels of people, with their intervals, as one JSON object."""
    from rapo_ray.atomic import write_text_atomically

    shares = ("recall", "precision", "false_alarm_rate")
    content = {
        "judges": judges,
        "unlabelled": unlabelled,
        "comparisons": [
            asdict(one) | {name: asdict(getattr(one.score, name)) for name in shares} for one in comparisons
        ],
    }
    write_text_atomically(path, json.dumps(content, indent=1) + "\n")


def read_completions(path: Path) -> list[tuple["Prompt", str]]:
    """Read the prompts and completions of the input; raises DataError that names the unusable rows."""
    from rapo_ray.data.dialogue import request_of
    from rapo_ray.data.files import read_table
    from rapo_ray.data.rows import RowError, harmful_of, id_of, level_of
    from rapo_ray.errors import DataError, named
    from rapo_ray.types import Prompt

    rows: dict[str, tuple[Prompt, str]] = {}
    bad: list[str] = []
    for number, row in enumerate(read_table(path), start=1):
        try:
            completion = row.get("completion")
            if not isinstance(completion, str):
                raise RowError(f"completion is {type(completion).__name__}, not text")
            identity, (turns, text) = id_of(number, row), request_of(row, "prompt")
            prompt = Prompt(identity, text, harmful_of(row), level_of(row), path.stem, "judge", turns=turns)
            if prompt.is_script:
                raise RowError("prompt is a script, whose earlier turns have no answers")
            if identity in rows:
                raise RowError(f"duplicate id {identity!r}")
        except RowError as error:
            bad.append(f"row {number}: {error}")
            continue
        rows[identity] = prompt, completion
    if bad:
        raise DataError(f"{path}: {named(bad)}; fix or remove them")
    if not rows:
        raise DataError(f"{path}: holds no rows; give a file with at least one")
    return list(rows.values())


def keyed(
    config: "RunConfig", rows: Sequence[tuple["Prompt", str]], judges: dict[str, str], parts: "tuple[Part, ...]"
) -> list[Judged]:
    """The completions with their keys; `judges` are the identities of the judges, by part, and `parts` are judged."""
    from rapo_ray.judging.parts import PARTS
    from rapo_ray.seeds import digest_of

    some = () if parts == PARTS else (parts,)
    marks = (config.model.thinking.open, config.model.thinking.close)
    return [
        Judged(
            digest_of(judges, marks, *prompt.wording, prompt.harmful, prompt.level, completion, *some),
            prompt,
            completion,
        )
        for prompt, completion in rows
    ]


def still_right(rows: Sequence[Judged], before: "Sequence[VerdictRow]") -> "list[VerdictRow]":
    """Earlier verdicts that are on one of the rows as it is now, under its id."""
    verdicts = {verdict.key: verdict for verdict in before}
    return [replace(verdicts[row.key], id=row.prompt.id) for row in rows if row.key in verdicts]


def write_verdicts(verdicts: "Sequence[VerdictRow]", output: Path) -> None:
    """Leave these verdicts in the output and no others; raises DataError where it is no file of verdicts."""
    from rapo_ray.atomic import write_text_atomically
    from rapo_ray.errors import DataError
    from rapo_ray.storage.reader import read_verdicts
    from rapo_ray.text.lines import split_lines

    if not output.exists():
        return
    lines = [_line(verdict) for verdict in verdicts]
    held = [f"{line}\n" for line in split_lines(output.read_text(encoding="utf-8"))]
    if held and not read_verdicts(output) and not held[0].startswith('{"'):
        raise DataError(f"{output}: is no file of verdicts; give another --output")
    if sorted(lines) != sorted(held):
        write_text_atomically(output, "".join(lines))


def _line(verdict: "VerdictRow") -> str:
    from rapo_ray.storage.json_records import to_json

    return json.dumps(to_json(verdict)) + "\n"


async def _judge_all(judge_one: "JudgeOne", rows: Sequence[Judged], chat: "ChatFormat", output: Path) -> None:
    from rapo_ray import console
    from rapo_ray.models.chat import parse_completion
    from rapo_ray.storage.records import verdict_row

    slots = asyncio.Semaphore(AT_ONCE)
    with output.open("a", encoding="utf-8") as out, console.progress("judging") as progress:

        async def one(row: Judged) -> None:
            async with slots:
                verdict = await judge_one(row.prompt, parse_completion(row.completion, truncated=False, chat=chat))
            out.write(_line(verdict_row(row.prompt, verdict, row.key)))
            out.flush()

        tasks = [asyncio.ensure_future(one(row)) for row in rows]
        for count, task in enumerate(asyncio.as_completed(tasks), start=1):
            await task
            progress.judged(count, len(rows))


if __name__ == "__main__":
    sys.exit(main())
