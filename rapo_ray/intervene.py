"""`python -m rapo_ray.intervene`: refusal against the depth of a forced safety trace, by level."""

import argparse
import sys
from pathlib import Path

from rapo_ray.errors import run_command

DESCRIPTION = """Force safety traces of four depths (the model's own, short, fitting, long) on a model before it answers
harmful prompts, and show how often it refuses at each level. Then swap its own traces, and show how often its answers
follow them. MODEL is a run's folder, a model's folder, a hub id or `embedded:...`. The same command goes on where it
stopped."""


def main(arguments: list[str] | None = None, program: str = "python -m rapo_ray.intervene") -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(program, description=DESCRIPTION)
    parser.add_argument("--model", required=True, help="what to study")
    parser.add_argument("--suites", help="as name:n,name:n; in place of evaluation.suites")
    parser.add_argument("--config", help="recipe; by default that of the run, else quickstart")
    parser.add_argument(
        "--output", type=Path, help="folder; by default intervention/ of the run, or of the recipe's out"
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="dotted settings laid over the recipe")
    return run_command(parser, arguments, _intervene)


def _intervene(options: argparse.Namespace) -> int:
    from rapo_ray.config.load import load_config
    from rapo_ray.pipeline.intervene import intervene
    from rapo_ray.pipeline.target import resolve_target, run_folder
    from rapo_ray.storage.layout import RunLayout

    run = run_folder(options.model)
    suites = [f"evaluation.suites={options.suites!r}"] if options.suites else []
    recipe = options.config or (str(RunLayout(run).config) if run else "quickstart")
    config = load_config(recipe, [*options.overrides, *suites])
    folder = options.output or RunLayout(run or config.out).intervention
    intervene(config, resolve_target(options.model, "model", config.model.thinking), folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
