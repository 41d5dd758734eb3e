"""`python -m rapo_ray.promote`: switch a running endpoint to a run's weights that passed their gate, or roll back."""

import argparse
import sys
from pathlib import Path

from rapo_ray.errors import finish

DESCRIPTION = """Serve another run's weights from the endpoint that `python -m rapo_ray.serve` started, without failing
a request: their engines start beside the old ones, the ingress changes over between two requests, the old engines
drain. Refused unless the gate of an evaluation of exactly these weights passed. --rollback returns to the previous
weights."""


def main(arguments: list[str] | None = None, program: str = "python -m rapo_ray.promote") -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(program, description=DESCRIPTION)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--run", type=Path, help="a run's folder, or its name below --out")
    action.add_argument("--rollback", action="store_true", help="return to the weights served before")
    action.add_argument("--history", action="store_true", help="show the weights served so far and their times")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="folder of all runs")
    parser.add_argument("--state", type=Path, help="folder of the endpoint's state; by default .serving below --out")
    parser.add_argument("--start-limit", type=float, default=600, help="seconds that engines may take to start")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    options = parser.parse_args(arguments)
    return finish(lambda: _promote(options), options.debug, "stopped; the same weights are served unless stated above")


def _promote(options: argparse.Namespace) -> int:
    from rapo_ray import console
    from rapo_ray.serving.state import State, previous

    state = State(options.state or options.out / ".serving")
    if options.history:
        for change in state.history():
            console.say(f"{change.at}  {change.action:<8}  {change.serving.id}  {change.model}")
        return 0
    config = state.settings()
    if options.rollback:
        model, action = Path(previous(state.history()).model), "rollback"
    else:
        from rapo_ray.models.published import read_published
        from rapo_ray.serving.gates import check_gate

        run = options.run if options.run.exists() else options.out / options.run
        published = read_published(run)
        gate = check_gate(published)
        console.say(f"{published.id} passed its gate: {gate.path}")
        model, action = run.resolve(), "promote"
    from actors.cluster import ray_cluster
    from rapo_ray.config.run import ClusterConfig
    from rapo_ray.serving.deploy import promote

    with ray_cluster(ClusterConfig(address="auto", device=config.device)):
        serving = promote(state, model, action, options.start_limit, console.say)
    console.say(f"serving {serving.id}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
