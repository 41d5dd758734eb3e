"""`rapo VERB ...`: every command of the package under one name; `python -m rapo_ray.VERB ...` is the same command."""

import sys
from importlib import import_module
from typing import NamedTuple


class Command(NamedTuple):
    """A verb's module, which has `main(arguments, program)`, and the line that `rapo --help` shows for it."""

    module: str
    summary: str


COMMANDS = {
    "train": Command("rapo_ray.train", "train a model: supervised warm-up, then online rounds"),
    "status": Command("rapo_ray.status", "show a run's progress in the terminal"),
    "report": Command("rapo_ray.report.__main__", "write the HTML report of a run or an evaluation"),
    "evaluate": Command("rapo_ray.evaluate", "evaluate a model or an endpoint on suites and attacks, with a gate"),
    "intervene": Command("rapo_ray.intervene", "measure refusal against the depth of a forced safety trace"),
    "judge": Command("rapo_ray.judge", "judge a file of completions with a recipe's judge"),
    "suite": Command("rapo_ray.data.suite", "add a conversation to a suite file, by hand"),
    "preferences": Command("rapo_ray.preferences", "export a run's preference pairs as a dataset"),
    "serve": Command("rapo_ray.serve", "serve a published model as an OpenAI-compatible endpoint"),
    "promote": Command("rapo_ray.promote", "move an endpoint to weights that passed their gate, or roll back"),
    "simulate": Command("rapo_ray.simulate", "estimate a recipe's round times and idle shares on a cluster"),
}


def main(arguments: list[str] | None = None) -> int:
    """Run the verb with the arguments that follow it; returns its exit status, or 2 for an unknown verb."""
    verb, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if verb in ("-h", "--help"):
        verbs = "\n".join(f"  {name:<13}{command.summary}" for name, command in COMMANDS.items())
        print(f"usage: rapo VERB [arguments]\n\n{verbs}\n\n`rapo VERB --help` lists a verb's arguments.")
        return 0
    if verb not in COMMANDS:
        print(f"error: unknown verb `{verb}`: give one of {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    status: int = import_module(COMMANDS[verb].module).main(rest, f"rapo {verb}")
    return status


if __name__ == "__main__":
    sys.exit(main())
