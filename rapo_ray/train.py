"""`python -m rapo_ray.train`: parse, resolve, and only then import what is heavy."""

import argparse
import sys
from importlib.util import find_spec

from rapo_ray.errors import interrupt_on_sigterm, run_command

DESCRIPTION = "Train a reasoning model with RAPO: supervised warm-up, then online rounds over Ray actors."
EPILOG = """settings, one section a role (a shipped recipe shows them; --dry-run prints them all, resolved):
  name, out, seed, rounds, prompts_per_round, samples_per_prompt,
  model.*, data.*, warmup.*, rollout.*, judge.*, credit.*, policy.*, reference.*, checkpoint.*, evaluation.*,
  gates.*, serve.*, sinks.*, cluster.*, limits.*
each is documented where it is defined, in rapo_ray/config/run.py

examples:
  python -m rapo_ray.train --config quickstart
  python -m rapo_ray.train --config quickstart name=mine rounds=4 policy.learning_rate=1e-5
  ray job submit --working-dir . -- python -m rapo_ray.train --config quickstart
"""


def main(arguments: list[str] | None = None, program: str = "python -m rapo_ray.train") -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(
        program,
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", default="quickstart", help="a shipped recipe's name, or a YAML file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="dotted settings laid over the recipe")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print the resolved config and the placement, read the data, start nothing",
    )
    interrupt_on_sigterm()
    stopped = "stopped; the same command resumes from the last checkpoint"
    return run_command(parser, arguments, _train, stopped)


def _train(options: argparse.Namespace) -> int:
    from rapo_ray.config.load import load_config, to_yaml

    config = load_config(options.config, options.overrides)
    if options.dry_run:
        from actors.memory_plan import say_plan
        from actors.placement import describe, plan
        from rapo_ray.pipeline.inputs import load_inputs, say_formats

        print(to_yaml(config))
        print(describe(plan(config)))
        say_formats(config)
        say_plan(config, print)
        load_inputs(config)
        return 0
    if find_spec("ray") is None:  # looked up, not imported, and before a model is fetched
        raise ModuleNotFoundError("No module named 'ray'", name="ray")
    from rapo_ray.pipeline.run import run

    run(config)
    return 0


if __name__ == "__main__":
    sys.exit(main())
