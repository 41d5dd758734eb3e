"""`python -m rapo_ray.simulate`: what a round costs on machines that are not here, and who is idle."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rapo_ray.errors import run_command

if TYPE_CHECKING:
    from rapo_ray.config import RunConfig
    from rapo_ray.simulation.profile import Profile

DESCRIPTION = """Play a recipe's rounds with the real orchestrator over Ray actors that only wait, for as long as
PROFILE says that a real one takes: a YAML file, or the folder of a run, whose measured times are taken, or with --gpu
times by arithmetic from the models' shapes and the card's rates. Sizes are the recipe's (rollout.engines,
judge.risk.actors, policy.ranks, ...). It waits in real time, which --speed shortens."""


def main(arguments: list[str] | None = None, program: str = "python -m rapo_ray.simulate") -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(program, description=DESCRIPTION)
    parser.add_argument("--config", default="quickstart", help="recipe")
    times = parser.add_mutually_exclusive_group()
    times.add_argument("--profile", type=Path, help="YAML file, or a run; by default the times of `make run`")
    times.add_argument("--gpu", choices=["h100"], help="card whose times are computed; none of them is measured")
    parser.add_argument("--tokens", type=float, help="mean length of a completion with --gpu, else half of the limit")
    parser.add_argument("--rounds", type=int, default=3, help="rounds to play")
    parser.add_argument("--speed", type=float, default=1.0, help="simulated seconds that pass in a real one")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="dotted settings laid over the recipe")
    return run_command(parser, arguments, _simulate)


def _simulate(options: argparse.Namespace) -> int:
    from actors.cluster import ray_cluster
    from rapo_ray.config.load import load_config
    from rapo_ray.report.terminal import show_simulation
    from rapo_ray.simulation.layout import describe_layout

    config = load_config(options.config, options.overrides)
    profile = _profile(options, config)
    with ray_cluster(config.cluster):
        from rapo_ray.simulation.rounds import (
            Simulation,  # imports Ray, which reads at its import whether tokens are on
        )

        simulation = Simulation(config, profile, options.speed)
        try:
            played = simulation.rounds(options.rounds)
        finally:
            simulation.close()
    show_simulation(config, played, describe_layout(config), options.speed)
    return 0


def _profile(options: argparse.Namespace, config: "RunConfig") -> "Profile":
    from actors.memory_plan import model_shapes
    from rapo_ray.errors import ConfigError
    from rapo_ray.simulation.gpu import CARDS, gpu_profile
    from rapo_ray.simulation.profile import Profile, read_profile

    if options.speed <= 0:
        raise ConfigError(f"--speed must be above 0 (it is {options.speed:g})")
    if options.gpu is None:
        return read_profile(options.profile) if options.profile else Profile()
    shapes = model_shapes(config)
    if shapes is None:
        raise ConfigError(
            f"--gpu: a model is neither a local folder nor of a known shape (model.path={config.model.path})"
        )
    return gpu_profile(config, shapes, CARDS[options.gpu], options.tokens)


if __name__ == "__main__":
    sys.exit(main())
