"""`python -m rapo_ray.evaluate`: suites and attacks on a model or an endpoint, with intervals and a gate."""

import argparse
import sys
from pathlib import Path

from rapo_ray.errors import run_command

DESCRIPTION = """Evaluate a model on suites: attack success, over-refusal, utility, trace adequacy, with 95 % intervals.
MODEL is a run's folder, a model's folder, a hub id, `embedded:...`, or the base address of an OpenAI-compatible
endpoint. The judge, the sources of suites, sampling and gates are those of the recipe (of the run, where MODEL is one).
The same command goes on where it stopped. Exit status: 0, or 3 where a gate is set and does not pass."""
GATE_STATUS = 3


def main(arguments: list[str] | None = None, program: str = "python -m rapo_ray.evaluate") -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(program, description=DESCRIPTION)
    parser.add_argument("--model", required=True, help="what to evaluate")
    parser.add_argument("--against", help="a second model, for paired differences (a utility_drop gate needs one)")
    parser.add_argument("--suites", help="as name:n,name:n; in place of evaluation.suites")
    parser.add_argument("--attacks", help="as none,role_play+base64; in place of evaluation.attacks")
    parser.add_argument("--config", help="recipe; by default that of the run, else quickstart")
    parser.add_argument(
        "--output", type=Path, help="folder; by default evaluations/ of the run, or of the recipe's out"
    )
    parser.add_argument("--served-name", help="the endpoint's name for the model")
    parser.add_argument("--token-file", type=Path, help="file with the endpoint's bearer token")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="dotted settings laid over the recipe")
    return run_command(parser, arguments, _evaluate)


def _evaluate(options: argparse.Namespace) -> int:
    from rapo_ray.config.load import load_config
    from rapo_ray.pipeline.evaluate import evaluate_models
    from rapo_ray.pipeline.target import resolve_target, run_folder
    from rapo_ray.storage.layout import RunLayout

    run = run_folder(options.model)
    recipe = options.config or (str(RunLayout(run).config) if run else "quickstart")
    overrides = list(options.overrides)
    if options.suites:
        overrides.append(f"evaluation.suites={options.suites!r}")
    if options.attacks:
        overrides.append(f"evaluation.attacks=[{options.attacks}]")
    config = load_config(recipe, overrides)
    served = (config.model.thinking, options.served_name, options.token_file)
    targets = [resolve_target(options.model, "model", *served)]
    if options.against:
        targets.append(resolve_target(options.against, "against", *served))
    folder = options.output or (RunLayout(run).evaluation("manual").path if run else RunLayout(config.out).evaluations)
    results = evaluate_models(config, targets, folder)
    return 0 if results.gate is None or results.gate.passed else GATE_STATUS


if __name__ == "__main__":
    sys.exit(main())
