"""Deployment on Ray Serve: start of an endpoint, and change-over between versions of its weights."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rapo_ray.config.serving import ServeConfig
from rapo_ray.errors import RapoError, ServingError
from rapo_ray.models.published import read_published
from rapo_ray.serving.state import State
from rapo_ray.serving.versions import Serving, serving_of

POLL_SECONDS = 0.5
REPORT_SECONDS = 10.0  # between two lines about a wait
SETTLE_SECONDS = 2.0  # for requests that have just taken the old version's handle
REFUSAL_SECONDS = 10.0  # for the ingress to refuse new requests
SENT_SECONDS = 0.5  # for the last bytes to pass the proxy
NAME = "rapo"  # of the ingress application


def start(config: ServeConfig, state: State, host: str, port: int, limit: float, say: Callable[[str], None]) -> Serving:
    """Start engines and ingress on the cluster that this process has joined; raises ServingError."""
    from ray import serve
    from ray.serve.config import HTTPOptions

    logging.getLogger("ray.serve").setLevel(logging.ERROR)  # our own lines say what goes on
    serving = _serving(config.model, config.name, say)
    serve.start(proxy_location="HeadOnly", http_options=HTTPOptions(host=host, port=port))
    say(f"starting the endpoint and the engines of {serving.id}")
    deploy([_engines(config, serving), _ingress(config, serving)], limit, say)
    state.save(config)
    state.add("serve", config.model, serving)
    return serving


def drain(limit: float, say: Callable[[str], None]) -> None:
    """Refuse new requests, and wait until those in flight have their answers, at most `limit` seconds."""
    from ray import serve
    from ray.exceptions import RayError

    ingress: Any = serve.get_app_handle(NAME)
    try:
        if in_flight := ingress.refuse.remote().result(timeout_s=REFUSAL_SECONDS):
            say(f"draining: {in_flight} answers in flight end, new requests get 503; Ctrl-C ends at once")
            ingress.drained.remote().result(timeout_s=limit)
            time.sleep(SENT_SECONDS)
    except TimeoutError:
        say("answers that are still in flight are cut off: their time is over")
    except RayError:
        say("the endpoint no longer answers: what is in flight is cut off")


def shutdown() -> None:
    """End Serve, with the endpoint, on the cluster that this process has joined."""
    from ray import serve

    serve.shutdown()


def promote(state: State, model: Path, action: str, limit: float, say: Callable[[str], None]) -> Serving:
    """Serve other weights: start their engines beside the old ones, change over between requests, drain the old."""
    config = state.settings().model_copy(update={"model": model})
    before = state.history()[-1].serving if state.history() else None
    name = before.name if before else config.name
    serving = _serving(model, name, say)
    if before is not None and before.id == serving.id:
        say(f"{serving.id} is already served")
        return serving
    change_over(config, serving, limit, say)
    state.save(config)
    state.add(action, model, serving)
    if before is not None:
        retire(before.app, say)
    return serving


def _serving(model: Path, name: str | None, say: Callable[[str], None]) -> Serving:
    published = read_published(model)
    if published.chat is None:
        say(f"{published.id} was published without its chat format, which is read from its template")
    return serving_of(published, name)


def follow(run: Path, state: State, limit: float, say: Callable[[str], None]) -> None:
    """Promote a run's best weights if they passed their gate, or else report the reason."""
    from rapo_ray.serving.gates import check_gate
    from rapo_ray.storage.layout import RunLayout

    best = RunLayout(run).best
    try:
        check_gate(read_published(best))
        promote(state, best, "follow", limit, say)
    except RapoError as error:
        say(f"not promoted: {error}")


def change_over(config: ServeConfig, serving: Serving, limit: float, say: Callable[[str], None]) -> None:
    """Start the engines of these weights, then switch the ingress to them; if the engines fail, nothing changes."""
    from ray import serve

    say(f"starting engines of {serving.id}")
    try:
        deploy([_engines(config, serving)], limit, say)
    except ServingError:
        serve.delete(serving.app, _blocking=False)
        raise
    deploy([_ingress(config, serving)], limit, say)


def _engines(config: ServeConfig, serving: Serving) -> Any:
    from ray.serve.api import RunTarget

    from rapo_ray.serving.app import model_app

    return RunTarget(target=model_app(config), name=serving.app, route_prefix=None)


def _ingress(config: ServeConfig, serving: Serving) -> Any:
    from ray.serve.api import RunTarget

    from rapo_ray.serving.app import ingress_for

    return RunTarget(target=ingress_for(config, serving), name=NAME, route_prefix="/")


def retire(app: str, say: Callable[[str], None]) -> None:
    """Drain and stop the engines of an application."""
    from ray import serve

    time.sleep(SETTLE_SECONDS)
    say(f"draining {app}")
    serve.delete(app)


def deploy(targets: list[Any], limit: float, say: Callable[[str], None]) -> None:
    """Deploy applications and wait, with progress lines, until all run; raises ServingError after `limit` seconds."""
    from ray import serve

    serve.run_many(targets, wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)
    started = reported = time.monotonic()
    waiting = [target.name for target in targets]
    while waiting:
        status = serve.status().applications[waiting[0]]
        now = time.monotonic()
        if status.status == "RUNNING":
            waiting.pop(0)
        elif status.status in ("DEPLOY_FAILED", "UNHEALTHY"):
            raise ServingError(f"{waiting[0]} did not start: {_reason(status)}")
        elif now - started > limit:
            raise ServingError(
                f"{waiting[0]} is {status.status} after {limit:g} s: raise --start-limit, or see Serve's logs"
            )
        else:
            if now - reported > REPORT_SECONDS:
                reported = now
                say(f"waiting for {waiting[0]}, {now - started:.0f} s so far")
            time.sleep(POLL_SECONDS)


def _reason(status: Any) -> str:
    messages = [status.message, *(deployment.message for deployment in status.deployments.values())]
    lines = [line.strip() for message in messages for line in str(message).splitlines() if line.strip()]
    return lines[-1][:300] if lines else "Serve gives no reason"
