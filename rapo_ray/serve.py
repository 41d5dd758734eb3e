"""`python -m rapo_ray.serve`: serve an aligned model behind an OpenAI-compatible endpoint, in the foreground."""

import argparse
import os
import sys
import time
from pathlib import Path

from rapo_ray.errors import interrupt_on_sigterm, run_command

DESCRIPTION = """Serve a published model over HTTP: /v1/models, /v1/chat/completions, /v1/completions, /health.
MODEL is a run's folder (or its model folder). Joins the cluster at RAY_ADDRESS, or else starts a local one. Every
request except /health needs a key from the file; docs/serving.md names the other environment variables. Settings (see
rapo_ray/config/serving.py) may follow as key=value, for example `device=cpu limits.per_minute=60 reasoning=inline`.
Ctrl-C drains and stops the endpoint."""


def main(arguments: list[str] | None = None, program: str = "python -m rapo_ray.serve") -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(program, description=DESCRIPTION)
    parser.add_argument("--model", type=Path, required=True, help="a run's folder")
    parser.add_argument("--api-keys", type=Path, required=True, help="file of `name:key` lines")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on")
    parser.add_argument("--state", type=Path, help="folder that promotion shares; by default .serving beside the run")
    parser.add_argument("--start-limit", type=float, default=600, help="seconds that engines may take to start")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="dotted settings")
    interrupt_on_sigterm()
    return run_command(parser, arguments, _serve, "stopped")


def _serve(options: argparse.Namespace) -> int:
    from rapo_ray.config.load import load_settings
    from rapo_ray.config.run import ClusterConfig
    from rapo_ray.config.serving import ServeConfig
    from rapo_ray.models.published import read_published
    from rapo_ray.serving.keys import read_keys

    paths: dict[str, object] = {"model": str(options.model.resolve()), "api_keys": str(options.api_keys.resolve())}
    config = load_settings(ServeConfig, paths, options.overrides, "the command line")
    read_keys(config.api_keys)
    published = read_published(config.model)
    from actors.cluster import ray_cluster
    from rapo_ray import console
    from rapo_ray.serving.deploy import drain, shutdown, start
    from rapo_ray.serving.headers import environment
    from rapo_ray.serving.state import State

    os.environ |= environment(config.limits)  # for a cluster that starts with it
    state = State(options.state or published.folder.parent.parent / ".serving")
    joined = bool(os.environ.get("RAY_ADDRESS"))
    with ray_cluster(ClusterConfig(device=config.device)):
        try:
            serving = start(config, state, options.host, options.port, options.start_limit, console.say)
            console.say(f"serving {serving.id} as `{serving.name}` at http://{options.host}:{options.port}/v1")
            try:
                while True:
                    time.sleep(3600)
            finally:
                drain(config.limits.seconds, console.say)
        finally:
            if joined:  # a cluster of our own ends with all that runs on it, at once
                shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
