"""`python -m rapo_ray.simulate`: what a round costs on machines that are not here, and who is idle."""

import argparse
import sys
from pathlib import Path

from rapo_ray.errors import finish

DESCRIPTION = """Play a recipe's rounds with the real orchestrator over Ray actors that only wait, for as long as
PROFILE says that a real one takes: a YAML file, or the folder of a run, whose measured times are taken. Sizes are the
recipe's (rollout.engines, judge.risk.actors, policy.ranks, ...). It waits in real time."""


def main(arguments: list[str] | None = None, program: str = "python -m rapo_ray.simulate") -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(program, description=DESCRIPTION)
    parser.add_argument("--config", default="quickstart", help="recipe")
    parser.add_argument("--profile", type=Path, help="YAML file, or a run; by default the times of `make run`")
    parser.add_argument("--rounds", type=int, default=3, help="rounds to play")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="dotted settings laid over the recipe")
    options = parser.parse_intermixed_args(arguments)
    return finish(lambda: _simulate(options), options.debug)


def _simulate(options: argparse.Namespace) -> int:
    from actors.cluster import ray_cluster
    from rapo_ray.config.load import load_config
    from rapo_ray.report.terminal import show_simulation
    from rapo_ray.simulation.profile import Profile, read_profile

    config = load_config(options.config, options.overrides)
    profile = read_profile(options.profile) if options.profile else Profile()
    with ray_cluster(config.cluster):
        from rapo_ray.simulation.rounds import (
            Simulation,  # imports Ray, which reads at its import whether tokens are on
        )

        simulation = Simulation(config, profile)
        try:
            played = simulation.rounds(options.rounds)
        finally:
            simulation.close()
    show_simulation(config, played)
    return 0


if __name__ == "__main__":
    sys.exit(main())
